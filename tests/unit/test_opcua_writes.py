"""What may be written, as what, and what the answer means."""

from __future__ import annotations

import pytest

from tagwerk.actors.opcua.logic.retry import item_delay_s, reconnect_delay_s
from tagwerk.actors.opcua.logic.writes import as_node_type, check_answer, check_tag
from tagwerk.protocols.errors import Refused, RefusedCode, Unknown
from tagwerk.protocols.tags import TagDef

TAG = TagDef(1, "a.b", "float", 0, node="ns=2;s=b", writable=True, write_low=0.0, write_high=100.0)


def refusal(call: object, *args: object) -> str:
    with pytest.raises(Refused) as caught:
        call(*args)  # type: ignore[operator]
    return caught.value.code


def test_a_fitting_value_passes() -> None:
    check_tag(TAG, 50.0)
    check_tag(TAG, 50)


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (True, RefusedCode.WRONG_TYPE),
        ("50", RefusedCode.WRONG_TYPE),
        (float("nan"), RefusedCode.BAD_VALUE),
        (float("inf"), RefusedCode.BAD_VALUE),
        (-0.1, RefusedCode.OUT_OF_RANGE),
        (100.1, RefusedCode.OUT_OF_RANGE),
    ],
)
def test_what_does_not_fit_the_tag(value: object, code: str) -> None:
    assert refusal(check_tag, TAG, value) == code


def test_a_tag_that_is_not_writable() -> None:
    assert refusal(check_tag, TagDef(1, "a", "float", 0, node="i=1"), 1.0) == RefusedCode.READ_ONLY
    assert refusal(check_tag, TagDef(1, "a", "float", 0, writable=True), 1.0) == RefusedCode.READ_ONLY


@pytest.mark.parametrize(
    ("value", "type_name", "expected"),
    [
        (1, "Double", 1.0),
        (1.5, "Float", 1.5),
        (65.0, "Int16", 65),
        (-128, "SByte", -128),
        ((1 << 64) - 1, "UInt64", (1 << 64) - 1),
        (True, "Boolean", True),
        ("x", "String", "x"),
    ],
)
def test_the_value_becomes_the_nodes_own_type(value: object, type_name: str, expected: object) -> None:
    given = as_node_type(value, type_name)  # type: ignore[arg-type]
    assert given == expected
    assert type(given) is type(expected)


@pytest.mark.parametrize(
    ("value", "type_name", "code"),
    [
        (1e39, "Float", RefusedCode.OUT_OF_RANGE),
        (32768, "Int16", RefusedCode.OUT_OF_RANGE),
        (-1, "Byte", RefusedCode.OUT_OF_RANGE),
        (65.5, "Int16", RefusedCode.WRONG_TYPE),
        (1.0, "Boolean", RefusedCode.WRONG_TYPE),
        (True, "Int16", RefusedCode.WRONG_TYPE),
        ("x", "Double", RefusedCode.WRONG_TYPE),
        (1.0, "String", RefusedCode.WRONG_TYPE),
        (1.0, "", RefusedCode.WRONG_TYPE),
        (1.0, "DateTime", RefusedCode.WRONG_TYPE),
    ],
)
def test_never_rounded_never_cut(value: object, type_name: str, code: str) -> None:
    assert refusal(as_node_type, value, type_name) == code


def test_what_the_servers_answer_means() -> None:
    check_answer(0)
    check_answer(0x002E_0000)  # GoodCompletesAsynchronously
    assert refusal(check_answer, 0x803B_0000) == RefusedCode.READ_ONLY
    assert refusal(check_answer, 0x801F_0000) == RefusedCode.READ_ONLY
    assert refusal(check_answer, 0x8074_0000) == RefusedCode.WRONG_TYPE
    assert refusal(check_answer, 0x803C_0000) == RefusedCode.OUT_OF_RANGE
    assert refusal(check_answer, 0x8034_0000) == RefusedCode.NO_COMMUNICATION
    with pytest.raises(Unknown):
        check_answer(0x800A_0000)  # BadTimeout: it asked its device, and does not know either


def test_delays_grow_to_their_cap_and_are_spread() -> None:
    assert [round(reconnect_delay_s(n, 1.0), 3) for n in (1, 2, 3, 8, 9, 20)] == [0.1, 0.15, 0.225, 1.709, 2.0, 2.0]
    assert reconnect_delay_s(10_000, 0.0) == 1.5
    assert item_delay_s(1, 1.0) == 1.0
    assert item_delay_s(99, 1.0) == 10.0
