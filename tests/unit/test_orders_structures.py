"""The binary form of structures: against asyncua's own, and against nonsense."""

from __future__ import annotations

from typing import Any

import pytest
from asyncua import ua
from asyncua.ua.ua_binary import struct_to_binary
from hypothesis import given
from hypothesis import strategies as st

from tagwerk.actors.orders.logic.bsd import BsdField, read_dictionary
from tagwerk.actors.orders.logic.services import Failure, ServiceFault
from tagwerk.actors.orders.structures import Field, Structure, Types
from tagwerk.protocols.errors import RemoteProtocolError

UNIT = ua.NodeId(ua.Int32(1), ua.Int16(2))
ORDER = ua.NodeId(ua.Int32(2), ua.Int16(2))


@pytest.fixture
def types() -> Types:
    return make_types()


def make_types() -> Types:
    types = Types()
    fields = (
        ("NamespaceUri", "String"),
        ("UnitId", "Int32"),
        ("DisplayName", "LocalizedText"),
        ("Description", "LocalizedText"),
    )
    types.add("unit", Structure("EUInformation", UNIT, tuple(Field(*one) for one in fields)))
    types.alias("colour", "Int32")
    order = (
        Field("units", "unit", array=True), Field("id", "Double"), Field("done", "Boolean", optional=True),
        Field("colour", "colour"), Field("words", "String", array=True, optional=True), Field("small", "Byte"),
    )  # fmt: skip
    types.add("order", Structure("Order", ORDER, order))
    return types


def unit(name: str) -> dict[str, Any]:
    return {"NamespaceUri": name, "UnitId": 5, "DisplayName": "a", "Description": "b"}


def an_order(**more: Any) -> dict[str, Any]:
    return {"units": [unit("x"), unit("ü")], "id": 1.5, "done": True, "colour": 2, "words": ["a"], "small": 3, **more}


def test_a_structure_is_written_as_asyncua_writes_it(types: Types) -> None:
    own = types.variant("unit", False, unit("urn:x")).Value
    theirs = ua.EUInformation("urn:x", ua.Int32(5), ua.LocalizedText("a"), ua.LocalizedText("b"))
    assert own.TypeId == UNIT
    assert own.Body == struct_to_binary(theirs)
    assert types.plain(ua.ExtensionObject(UNIT, ua.ByteString(struct_to_binary(theirs)))) == unit("urn:x")


def test_what_was_written_is_read(types: Types) -> None:
    for value in (an_order(), an_order(done=None, words=None), an_order(units=[], words=[])):
        assert types.plain(types.variant("order", False, value)) == value
    many = types.variant("order", True, [an_order(), an_order(id=2.0)])
    assert [one["id"] for one in types.plain(many)] == [1.5, 2.0]


def test_a_structure_whose_encoding_is_not_known_is_read_as_declared(types: Types) -> None:
    body = types.variant("order", False, an_order()).Value.Body
    strange = ua.ExtensionObject(ua.NodeId(ua.Int32(99), ua.Int16(9)), body)
    assert types.plain(strange, "order") == an_order()
    with pytest.raises(RemoteProtocolError, match="unknown type"):
        types.plain(strange)
    assert types.plain(ua.ExtensionObject()) is None


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"small": 256}, "small: 256 is no Byte"),
        ({"small": 1.5}, "small: 1.5 is no Byte"),
        ({"id": True}, "id: True is no Double"),
        ({"colour": "red"}, "colour: 'red' is no Int32"),
        ({"units": [{}]}, r"units\[0\]: the resource's EUInformation also needs the field `NamespaceUri`"),
        ({"units": 1}, "units: 1 is no"),
        ({"extra": 1}, "the value: the resource's Order has no field `extra`"),
    ],
)
def test_what_does_not_fit_is_told(types: Types, change: dict[str, Any], told: str) -> None:
    with pytest.raises(ServiceFault, match=told) as caught:
        types.variant("order", False, an_order(**change))
    assert caught.value.failure is Failure.REJECTED


def test_numbers_take_the_form_of_the_argument(types: Types) -> None:
    assert types.variant("Int16", False, 7.0).Value == 7
    assert isinstance(types.variant("Float", False, 7).Value, float)
    for wrong in (7.5, 40_000, float("inf"), float("nan"), "7", None):
        with pytest.raises(ServiceFault):
            types.variant("Int16", False, wrong)


def test_an_argument_has_the_name_that_programs_use(types: Types) -> None:
    assert types.argument("o", "order", True).text == "Order[]"
    assert types.argument("n", "colour", False).text == "number"


@given(st.binary(max_size=80))
def test_nonsense_is_told_as_such(body: bytes) -> None:
    types = make_types()
    try:
        found = types.plain(ua.ExtensionObject(ORDER, ua.ByteString(body)))
    except RemoteProtocolError:
        return
    assert set(found) == set(an_order())


DICTIONARY = b"""<opc:TypeDictionary xmlns:opc="http://opcfoundation.org/BinarySchema/" TargetNamespace="u">
<opc:EnumeratedType Name="Colour" LengthInBits="32"/>
<opc:StructuredType Name="Part">
  <opc:Field Name="name" TypeName="opc:CharArray"/>
  <opc:Field Name="NoOfcolours" TypeName="opc:Int32"/>
  <opc:Field Name="colours" TypeName="tns:Colour" LengthField="NoOfcolours"/>
</opc:StructuredType></opc:TypeDictionary>"""


def test_a_dictionary_is_read() -> None:
    found = read_dictionary(DICTIONARY + b"\0")
    assert found.structures == {"Part": (BsdField("name", "String", False), BsdField("colours", "Colour", True))}
    assert found.enumerations == {"Colour"}


@pytest.mark.parametrize(
    "text",
    [b"", b"<a", b'<!DOCTYPE a [<!ENTITY b "c">]><a/>', DICTIONARY.replace(b'LengthField="', b'SwitchField="a" L="')],
)
def test_what_is_no_dictionary_is_told(text: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        read_dictionary(text)
