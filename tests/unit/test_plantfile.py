"""Plant files that are sound: what they give."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

from tagwerk.protocols.errors import ConfigError, ConfigErrors, LocalProtocolError
from tagwerk.runtime.plantfile import PlantFile, as_rows, build, load, parse, schema
from tagwerk.runtime.plantfile_models import MachineConfig
from tagwerk.runtime.plantfile_tables import (
    ALARM,
    EXTERNAL,
    HISTORY,
    JOURNAL,
    MACHINE,
    NODE,
    OBSERVER,
    OPCUA,
    ORDER,
    PLANT,
    RESOURCE,
    TAG,
    Form,
)

REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "plant-file.md"

GOOD = """
[plant]
shards = 2

[opcua.plc]
url = "opc.tcp://localhost:4840/plc"

[machine.mash]
class = "mash:Mash"
parameters = { hysteresis = 1.5, cycles = 3, fast = true, recipe = "pils" }

[external.plc]
command = "python 'plc sim.py'"
env = { PORT = "4840" }

[tag."brewhouse.kettle.temperature"]
unit = "degC"
display_unit = "degF"
low = 0
high = 120
write_low = 20
write_high = 100.0
source = "plc"
node = "nsu=urn:brewhouse;s=Kettle.Temperature"
area = "hot"
labels = ["a", "b"]

[tag.count]
type = "int"
default = 9007199254740993

[alarm."kettle.hot"]
tag = "brewhouse.kettle.temperature"
type = "HI"
limit = 98
priority = "high"

[alarm."kettle.hottest"]
tag = "brewhouse.kettle.temperature"
type = "HIHI"
limit = 99
severity = 5
area = "alarms"
"""


@pytest.fixture
def plant(tmp_path: Path) -> PlantFile:
    return parse(GOOD, tmp_path / "brewhouse.toml")


def test_an_empty_file_is_a_plant_of_defaults(tmp_path: Path) -> None:
    plant = parse("", tmp_path / "empty.toml")
    assert plant.plant.name == "empty"
    assert (plant.journal.sync, plant.journal.sync_interval_s, plant.journal.at_cap) == ("interval", 1.0, "live_only")
    assert plant.history.retention_days is None
    assert plant.actors() == ("plant/0", "events/0", "cvt/0", "historian/0", "alarms/0")
    assert plant.warnings == ()


def test_values_are_typed_and_defaults_filled_in(plant: PlantFile) -> None:
    tag = plant.tags["brewhouse.kettle.temperature"]
    assert (tag.name, tag.type, tag.low, tag.source) == ("brewhouse.kettle.temperature", "float", 0.0, "opcua/plc")
    assert isinstance(tag.low, float)
    assert tag.labels == ("a", "b")
    assert plant.tags["count"].default == 2**53 + 1
    assert plant.machines["mash"].class_path == "mash:Mash"
    assert plant.machines["mash"].parameters == {"hysteresis": 1.5, "cycles": 3, "fast": True, "recipe": "pils"}
    assert plant.externals["plc"].argv == ("python", "plc sim.py")


def test_models_are_frozen(plant: PlantFile) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        plant.tags["count"].unit = "bar"  # type: ignore[misc]  # pyright: ignore
    with pytest.raises(ValueError, match="frozen"):
        plant.plant.shards = 3


def test_an_alarm_takes_severity_from_its_priority_and_area_from_its_tag(plant: PlantFile) -> None:
    hot, hottest = plant.alarms["kettle.hot"], plant.alarms["kettle.hottest"]
    assert (hot.severity, hot.area, hot.limit) == (700, "hot", 98.0)
    assert (hottest.severity, hottest.area) == (5, "alarms")


def test_a_bool_alarm_is_raised_by_true_unless_told_otherwise(tmp_path: Path) -> None:
    text = """
    tag.run.type = "bool"
    alarm.on = { tag = "run", type = "BOOL" }
    [alarm.off]
    tag = "stop"
    type = "BOOL"
    limit = false
    [tag.stop]
    type = "bool"
    """
    plant = parse(text, tmp_path / "p.toml")
    assert (plant.alarms["on"].limit, plant.alarms["off"].limit) == (True, False)


def test_the_lease_follows_the_interval() -> None:
    fast = MachineConfig.model_validate({"class": "m:M", "interval_s": 0.1})
    slow = MachineConfig.model_validate({"class": "m:M", "interval_s": 5})
    told = MachineConfig.model_validate({"class": "m:M", "lease_s": 0.9})
    assert [machine.effective_lease_s for machine in (fast, slow, told)] == [2.0, 15.0, 0.9]


@pytest.mark.parametrize(
    ("written", "owner"),
    [
        ("plc", "opcua/plc"),
        ("opcua.plc", "opcua/plc"),
        ("opcua/plc", "opcua/plc"),
        ("mash", "machine/mash"),
        ("machine/mash", "machine/mash"),
        ("writer/lab", "writer/lab"),
        ("writer.lab", "writer/lab"),
        ("", ""),
    ],
)
def test_a_source_becomes_the_name_of_the_owner(written: str, owner: str, tmp_path: Path) -> None:
    node = 'node = "nsu=urn:x;i=5"' if owner.startswith("opcua") else ""
    plant = parse(f'{GOOD}\n[tag.x]\nsource = "{written}"\n{node}', tmp_path / "p.toml")
    assert plant.tags["x"].source == owner


def test_actors_start_in_order_and_need_each_other(plant: PlantFile) -> None:
    assert plant.actors() == (
        "plant/0", "events/0", "cvt/0", "cvt/1", "historian/0", "alarms/0", "external/plc", "opcua/plc", "machine/mash",
    )  # fmt: skip
    assert plant.depends("plant/0") == ()
    assert plant.depends("external/plc") == ()
    assert plant.depends("events/0") == plant.depends("cvt/1") == ("plant/0",)
    assert plant.depends("historian/0") == plant.depends("alarms/0") == plant.depends("opcua/plc") == ("cvt/0", "cvt/1")
    assert plant.depends("machine/mash") == ("cvt/0", "cvt/1", "opcua/plc")
    with pytest.raises(LocalProtocolError):
        plant.depends("cvt/2")


def test_needs_of_the_node_come_on_top(tmp_path: Path) -> None:
    more = '\n[node.main]\nneeds = { "alarms/0" = ["machine/mash", "cvt/0"], "opcua/plc" = ["external/plc"] }'
    plant = parse(GOOD + more, tmp_path / "p.toml")
    assert plant.depends("alarms/0") == ("cvt/0", "cvt/1", "machine/mash")
    assert plant.actors()[-2:] == ("machine/mash", "alarms/0")
    assert plant.node.needs["opcua/plc"] == ("external/plc",)


def test_a_namespace_index_is_accepted_with_a_warning(tmp_path: Path) -> None:
    more = """
    [tag.a]
    source = "plc"
    node = "ns=2;s=A"
    [tag.clock]
    source = "plc"
    node = "i=2258"
    [tag.acid]
    unit = "pH"
    """
    plant = parse(GOOD + more, tmp_path / "p.toml")
    index, acid = plant.warnings
    assert "1 tags" in index
    assert "nsu=URI" in index
    assert "p.toml line 45" in index
    assert "picohenry" in acid


def test_a_password_file_is_found_beside_the_plant_file(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("x")
    secret.chmod(0o644)
    text = '[opcua.plc]\nurl = "opc.tcp://[::1]:4840"\nuser = "me"\npassword_file = "secret"'
    with pytest.raises(ConfigErrors, match="open to others"):
        parse(text, tmp_path / "p.toml")
    secret.chmod(0o600)
    assert parse(text, tmp_path / "p.toml").opcua["plc"].user == "me"


def test_load_reads_the_file_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "p.toml"
    path.write_text(GOOD, encoding="utf-8-sig")
    assert load(path).path == path


def test_tables_read_elsewhere_make_a_plant_too(tmp_path: Path) -> None:
    assert build({"tag": {"a": {"unit": "bar"}}}, tmp_path / "p.toml").tags["a"].unit == "bar"
    with pytest.raises(ConfigErrors) as caught:
        build({"tag": {"a": {"unit": "barr"}}}, tmp_path / "p.toml")
    assert (caught.value.errors[0].key, caught.value.errors[0].line) == ("tag.a.unit", None)


def test_errors_of_more_checks_are_listed_with_the_others(tmp_path: Path) -> None:
    def check(plant: PlantFile) -> list[ConfigError]:
        return [ConfigError("no such class", key="machine.mash.class", value=plant.machines["mash"].class_path)]

    text = GOOD.replace("shards = 2", "shards = 0")
    with pytest.raises(ConfigErrors) as caught:
        parse(text, tmp_path / "p.toml", checks=[check])
    assert [(row["key"], row["line"], row["value"]) for row in as_rows(caught.value)] == [
        ("plant.shards", 3, "0"),
        ("machine.mash.class", 9, "mash:Mash"),
    ]
    assert all(row["file"] == str(tmp_path / "p.toml") for row in as_rows(caught.value))


def test_rows_have_the_keys_of_the_interface() -> None:
    error = ConfigError("m", file="f", key="k", value="v", expected="e", line=3)
    row = {"file": "f", "line": 3, "key": "k", "value": "v", "message": "m", "expected": "e"}
    assert as_rows([error]) == as_rows(error) == as_rows(ConfigErrors([error])) == [row]


def test_the_schema_knows_all_sections_and_keys() -> None:
    result = schema()
    assert set(result["properties"]) == {
        "plant", "journal", "history", "tag", "alarm", "opcua", "machine", "order", "resource", "node",
        "external",
    }  # fmt: skip
    definitions = result["$defs"]
    assert set(definitions["TagConfig"]["properties"]) == set(TAG.keys)
    assert "required" not in definitions["TagConfig"]
    assert definitions["MachineConfig"]["required"] == ["class"]
    assert definitions["OpcuaConfig"]["additionalProperties"] is False


def test_the_reference_names_every_key_once() -> None:
    forms: dict[str, Form[Any]] = {
        "plant": PLANT, "journal": JOURNAL, "history": HISTORY, "tag": TAG, "alarm": ALARM, "opcua": OPCUA,
        "machine": MACHINE, "order": ORDER, "order.observer": OBSERVER, "resource": RESOURCE, "node": NODE,
        "external": EXTERNAL,
    }  # fmt: skip
    parts = re.split(
        r"^## `\[(\w+(?:\.observer)?)[^`]*\]`.*$", REFERENCE.read_text(encoding="utf-8"), flags=re.MULTILINE
    )
    documented = dict(zip(parts[1::2], parts[2::2], strict=True))
    assert {section: re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE) for section, text in documented.items()} == {
        section: list(form.keys) for section, form in forms.items()
    }
