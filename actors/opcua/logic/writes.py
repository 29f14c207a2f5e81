"""May this value be written, as what, and what does the server's answer mean."""

from __future__ import annotations

import math
from types import MappingProxyType
from typing import Final

from tagwerk.protocols import quality as q
from tagwerk.protocols.errors import Refused, RefusedCode, Unknown
from tagwerk.protocols.tags import TagDef

FLOAT32_MAX: Final = 3.4028234663852886e38

INT_RANGES: Final = MappingProxyType(
    {
        "SByte": (-(1 << 7), (1 << 7) - 1),
        "Byte": (0, (1 << 8) - 1),
        "Int16": (-(1 << 15), (1 << 15) - 1),
        "UInt16": (0, (1 << 16) - 1),
        "Int32": (-(1 << 31), (1 << 31) - 1),
        "UInt32": (0, (1 << 32) - 1),
        "Int64": (-(1 << 63), (1 << 63) - 1),
        "UInt64": (0, (1 << 64) - 1),
    }
)
"""Built-in integer types and what they hold (Part 6, 5.2.2)."""

_REFUSALS: Final = MappingProxyType(
    {
        0x803B_0000: RefusedCode.READ_ONLY,  # BadNotWritable
        0x801F_0000: RefusedCode.READ_ONLY,  # BadUserAccessDenied
        0x8073_0000: RefusedCode.READ_ONLY,  # BadWriteNotSupported
        q.BAD_TYPE_MISMATCH: RefusedCode.WRONG_TYPE,
        0x803C_0000: RefusedCode.OUT_OF_RANGE,  # BadOutOfRange
    }
)
_UNKNOWN: Final = frozenset(
    {
        0x8001_0000,  # BadUnexpectedError
        0x8002_0000,  # BadInternalError: it failed on the way, and nobody knows where
        0x8005_0000,  # BadCommunicationError
        0x800A_0000,  # BadTimeout
        0x802C_0000,  # BadRequestCancelledByClient
        0x805A_0000,  # BadRequestCancelledByRequest
        0x8084_0000,  # BadRequestInterrupted
        0x8085_0000,  # BadRequestTimeout
        0x808B_0000,  # BadDeviceFailure
    }
)
"""The server itself does not know what its device did."""


def check_tag(tag: TagDef, value: float | int | bool | str) -> None:
    """Does the value fit the tag?

    Raises:
        Refused: `ReadOnly`, `WrongType`, `BadValue` or `OutOfRange`.
    """
    if not tag.writable:
        raise Refused(RefusedCode.READ_ONLY, "the tag is not writable", tag.name)
    if not tag.node:
        raise Refused(RefusedCode.READ_ONLY, "the tag has no node on the server", tag.name)
    fits = {
        "float": type(value) in (float, int),
        "int": type(value) is int,
        "bool": type(value) is bool,
        "str": type(value) is str,
    }[tag.type]
    if not fits:
        raise Refused(RefusedCode.WRONG_TYPE, f"{value!r} is no {tag.type}", tag.name)
    if isinstance(value, str) or type(value) is bool:
        return
    if not math.isfinite(value):
        raise Refused(RefusedCode.BAD_VALUE, f"{value} cannot be written", tag.name)
    if tag.write_low is not None and value < tag.write_low:
        raise Refused(RefusedCode.OUT_OF_RANGE, f"{value} is below write_low = {tag.write_low}", tag.name)
    if tag.write_high is not None and value > tag.write_high:
        raise Refused(RefusedCode.OUT_OF_RANGE, f"{value} is above write_high = {tag.write_high}", tag.name)


def as_node_type(value: float | int | bool | str, type_name: str, tag: str = "") -> float | int | bool | str:
    """The value as the node's built-in type takes it; never rounded, never cut.

    Raises:
        Refused: `WrongType` if the type cannot hold such a value, `OutOfRange` if it cannot hold this one.
    """
    if type_name == "Boolean" and type(value) is bool:
        return value
    if type_name == "String" and isinstance(value, str):
        return value
    if isinstance(value, str) or type(value) is bool:
        raise Refused(RefusedCode.WRONG_TYPE, f"the node is {type_name or 'not a scalar'}, {value!r} is not", tag)
    if type_name in ("Float", "Double"):
        if type_name == "Float" and abs(value) > FLOAT32_MAX:
            raise Refused(RefusedCode.OUT_OF_RANGE, f"{value} does not fit into a 32-bit Float", tag)
        return float(value)
    if type_name not in INT_RANGES:
        raise Refused(RefusedCode.WRONG_TYPE, f"the node is {type_name or 'not a scalar'}, {value!r} is not", tag)
    if isinstance(value, float) and not value.is_integer():
        raise Refused(RefusedCode.WRONG_TYPE, f"the node is {type_name}, {value} is not whole", tag)
    whole = int(value)
    low, high = INT_RANGES[type_name]
    if not low <= whole <= high:
        raise Refused(RefusedCode.OUT_OF_RANGE, f"{whole} does not fit into {type_name} ({low} to {high})", tag)
    return whole


def check_answer(status: int, tag: str = "") -> None:
    """What the server's StatusCode of a write means: nothing is raised if it took the value.

    Raises:
        Refused: It did not.
        Unknown: It does not know.
    """
    if not q.is_bad(status):
        return
    code = status & q.CODE_MASK
    if code in _UNKNOWN:
        raise Unknown(f"the server answered {q.name_of(status)}")
    raise Refused(_REFUSALS.get(code, RefusedCode.NO_COMMUNICATION), f"the server answered {q.name_of(status)}", tag)
