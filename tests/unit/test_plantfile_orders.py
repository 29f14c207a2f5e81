"""The sections of a plant file that are about orders."""

from __future__ import annotations

from pathlib import Path

import pytest

from tagwerk.protocols.errors import ConfigErrors
from tagwerk.runtime.plantfile import PlantFile, parse

TWO = """
[order]
slots = 1
[resource.mill]
url = "opc.tcp://a:4840"
[resource.press]
url = "opc.tcp://b:4840"
"""


def plant(text: str) -> PlantFile:
    return parse(text, Path("/plant/plant.toml"))


def errors(text: str) -> list[tuple[str, str]]:
    with pytest.raises(ConfigErrors) as caught:
        plant(text)
    return [(one.key, one.message) for one in caught.value.errors]


def test_a_plant_with_resources_has_the_actors_of_orders() -> None:
    found = plant(TWO)
    assert found.actors()[5:] == ("resource/mill", "resource/press", "assigner/0", "order/0")
    assert set(found.depends("order/0")) == {"cvt/0", "resource/mill", "resource/press", "assigner/0"}
    assert "resource/others" in plant("[order]\nothers = true").actors()
    assert "order/0" in plant("[order]").actors()
    assert plant("").actors() == ("plant/0", "events/0", "cvt/0", "historian/0", "alarms/0")


def test_it_has_their_tags_and_alarms() -> None:
    found = plant(TWO)
    assert found.tags["order.running"].source == "order/0"
    assert found.tags["order.slot1.state"].type == "str"
    assert "order.slot2.state" not in found.tags
    assert found.tags["resource.mill.stuck"].source == "resource/mill"
    of_resources = {f"resource.{name}.{key}" for name in ("mill", "press") for key in ("stuck", "may_move")}
    assert set(found.alarms) == {"order.in_doubt", *of_resources}
    assert len(plant("").tags) == len(plant("").alarms) == 0


def test_what_the_file_says_of_them_counts() -> None:
    found = plant(
        TWO + '[tag."order.running"]\ntype = "int"\nsource = "order/0"\nlog = false\n'
        '[alarm.mill_stuck]\ntag = "resource.mill.stuck"\ntype = "BOOL"\npriority = "critical"\n'
    )
    assert found.tags["order.running"].log is False
    moves = {"resource.mill.may_move", "resource.press.may_move"}
    assert set(found.alarms) == {"order.in_doubt", "mill_stuck", "resource.press.stuck", *moves}


def test_what_is_wrong_is_told() -> None:
    assert errors('[resource.a]\nurl = "http://a"') == [("resource.a.url", "it is not the address of an OPC UA server")]
    assert errors("[resource.a]") == [("resource.a.url", "the key is missing")]
    assert errors('[resource.a]\nurl = "opc.tcp://a:1"\nplaces = 0') == [
        ("resource.a.places", "the value is out of range")
    ]
    same = '[resource.a]\nurl = "opc.tcp://a:1"\n[resource.b]\nurl = "opc.tcp://A:1/"'
    assert errors(same) == [("resource.b.url", "the server is named twice")]
    assert errors('[resource.others]\nurl = "opc.tcp://a:1"') == [("resource.others", "the name is taken")]
    assert errors('[order]\nagent = "opc.tcp://a:1"')[0][0] == "order.agent"
    assert errors('[order]\nuser = "u"') == [("order.password_file", "the key is missing")]
    assert errors("[order]\nregistri = 1")[0] == ("order.registri", "unknown key")


WATCHED = '[order.observer]\nurl = "opc.tcp://0.0.0.0:4850"\n'


def test_who_may_look_at_orders_is_said() -> None:
    found = plant(WATCHED + "anonymous = true\n" + '[order]\ndashboard = "http://10.0.0.1:8080"')
    assert found.actors()[-1] == "observer/0"
    assert found.depends("observer/0") == ("order/0",)
    assert found.order.observer is not None
    assert (found.order.observer.security, found.order.observer.ended) == ("sign_and_encrypt", 20)
    assert plant('[order]\ndashboard = "http://b"').actors()[-1] == "observer/0"
    assert plant("[order]").order.observer is None


def test_what_is_wrong_with_who_may_look_is_told() -> None:
    assert errors(WATCHED) == [("order.observer.user", "nobody may look")]
    assert errors("[order.observer]\nanonymous = true") == [("order.observer.url", "the key is missing")]
    assert errors(WATCHED + "anonymus = true")[0] == ("order.observer.anonymus", "unknown key")
    assert errors(WATCHED + "anonymous = true\nclients = 0")[0][0] == "order.observer.clients"
    assert errors(WATCHED + 'user = "u"') == [("order.observer.password_file", "the key is missing")]
    assert ("order.observer.security", "the password would travel readable") in errors(
        WATCHED + 'user = "u"\npassword_file = "p"\nsecurity = "none"'
    )
    assert errors(WATCHED + 'anonymous = true\nkey = "k.pem"') == [
        ("order.observer.key", "there is no such file"), ("order.observer.certificate", "the key is missing"),
    ]  # fmt: skip
    assert errors("[order]\nobserver = 1")[0] == ("order.observer", "it is not a table")
    assert errors('[order]\ndashboard = "b:1"') == [("order.dashboard", "it is not the address of a dashboard")]
    assert errors('[order]\ndashboard = "http://b:99999"') == [
        ("order.dashboard", "a port is a number from 1 to 65535")
    ]
