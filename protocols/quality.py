"""Quality of a value: an OPC UA StatusCode (Part 4, 7.38), its class and its name."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

GOOD: Final = 0x0000_0000
GOOD_LOCAL_OVERRIDE: Final = 0x0096_0000
UNCERTAIN: Final = 0x4000_0000
UNCERTAIN_NO_COMMUNICATION: Final = 0x408F_0000
UNCERTAIN_LAST_USABLE: Final = 0x4090_0000
UNCERTAIN_INITIAL: Final = 0x4092_0000
UNCERTAIN_SENSOR: Final = 0x4093_0000
UNCERTAIN_EU_EXCEEDED: Final = 0x4094_0000
UNCERTAIN_SUB_NORMAL: Final = 0x4095_0000
BAD: Final = 0x8000_0000
BAD_NO_COMMUNICATION: Final = 0x8031_0000
BAD_WAITING_FOR_INITIAL_DATA: Final = 0x8032_0000
BAD_NODE_ID_UNKNOWN: Final = 0x8034_0000
BAD_TYPE_MISMATCH: Final = 0x8074_0000
BAD_CONFIGURATION: Final = 0x8089_0000
BAD_NOT_CONNECTED: Final = 0x808A_0000
BAD_DEVICE_FAILURE: Final = 0x808B_0000
BAD_SENSOR_FAILURE: Final = 0x808C_0000
BAD_OUT_OF_SERVICE: Final = 0x808D_0000
BAD_DATA_LOST: Final = 0x809D_0000

CODE_MASK: Final = 0xFFFF_0000
"""The upper half says what it is; the lower half holds flag bits."""

BACKFILLED: Final = 0x0000_0020
"""In history: the sample was backfilled or imported, it never was the current value. A bit that the standard reserves
and that is 0 in what a device sends (Part 4, 7.38.1, bits 5 and 6)."""

NAMES: Final = MappingProxyType(
    {
        GOOD: "Good",
        GOOD_LOCAL_OVERRIDE: "GoodLocalOverride",
        UNCERTAIN: "Uncertain",
        UNCERTAIN_NO_COMMUNICATION: "UncertainNoCommunicationLastUsableValue",
        UNCERTAIN_LAST_USABLE: "UncertainLastUsableValue",
        0x4091_0000: "UncertainSubstituteValue",
        UNCERTAIN_INITIAL: "UncertainInitialValue",
        UNCERTAIN_SENSOR: "UncertainSensorNotAccurate",
        UNCERTAIN_EU_EXCEEDED: "UncertainEngineeringUnitsExceeded",
        UNCERTAIN_SUB_NORMAL: "UncertainSubNormal",
        BAD: "Bad",
        0x8001_0000: "BadUnexpectedError",
        0x8002_0000: "BadInternalError",
        0x8005_0000: "BadCommunicationError",
        0x800A_0000: "BadTimeout",
        0x800D_0000: "BadServerNotConnected",
        0x801F_0000: "BadUserAccessDenied",
        BAD_NO_COMMUNICATION: "BadNoCommunication",
        BAD_WAITING_FOR_INITIAL_DATA: "BadWaitingForInitialData",
        0x8033_0000: "BadNodeIdInvalid",
        BAD_NODE_ID_UNKNOWN: "BadNodeIdUnknown",
        0x803A_0000: "BadNotReadable",
        0x803B_0000: "BadNotWritable",
        0x803C_0000: "BadOutOfRange",
        0x803D_0000: "BadNotSupported",
        BAD_TYPE_MISMATCH: "BadTypeMismatch",
        BAD_CONFIGURATION: "BadConfigurationError",
        BAD_NOT_CONNECTED: "BadNotConnected",
        BAD_DEVICE_FAILURE: "BadDeviceFailure",
        BAD_SENSOR_FAILURE: "BadSensorFailure",
        BAD_OUT_OF_SERVICE: "BadOutOfService",
        BAD_DATA_LOST: "BadDataLost",
        0x80AE_0000: "BadConnectionClosed",
        0x80AF_0000: "BadInvalidState",
    }
)


def is_good(code: int) -> bool:
    """True if the severity bits say Good."""
    return code >> 30 == 0


def is_bad(code: int) -> bool:
    """True if the severity bits say Bad; the reserved pattern 11 counts as Bad."""
    return code >> 30 >= 2


def is_backfilled(code: int) -> bool:
    """True if the sample was backfilled or imported."""
    return bool(code & BACKFILLED)


def name_of(code: int) -> str:
    """The name of a StatusCode; an unlisted one is its class and its number, `Bad(0x80770000)`."""
    named = NAMES.get(code & CODE_MASK)
    if named is not None:
        return named
    kind = ("Good", "Uncertain", "Bad", "Bad")[code >> 30 & 3]
    return f"{kind}(0x{code:08X})"


def good_mask(quality: NDArray[np.uint32]) -> NDArray[np.bool_]:
    """Which of these are Good.

    Args:
        quality: uint32 (n,).

    Returns:
        bool (n,).
    """
    return quality < UNCERTAIN


def bad_mask(quality: NDArray[np.uint32]) -> NDArray[np.bool_]:
    """Which of these are Bad.

    Args:
        quality: uint32 (n,).

    Returns:
        bool (n,).
    """
    return quality >= BAD


_GOOD: Final = np.zeros(1 << 16, np.uint32)
_GOOD.flags.writeable = False


def all_good(count: int) -> NDArray[Any]:
    """A column of Good, uint32 (count,), not to be written to."""
    return _GOOD[:count] if count <= len(_GOOD) else np.zeros(count, np.uint32)


def is_all_good(quality: NDArray[Any]) -> bool:
    """Whether a column is Good throughout."""
    return quality.base is _GOOD or not quality.any()
