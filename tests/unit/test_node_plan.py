from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tagwerk.protocols.errors import ConfigError
from tagwerk.runtime.node_plan import Plan, plan
from tagwerk.runtime.plantfile import load


def planned(folder: Path, text: str) -> Plan:
    path = folder / "plant.toml"
    path.write_text(text)
    return plan(load(path))


def test_the_limits_of_the_plant_file_are_those_of_the_node(tmp_path: Path) -> None:
    found = planned(tmp_path, "[node.main]\nmemory_limit_bytes = 100000000\ncpu_limit_pct = 80.0\nhang_after_s = 2.0\n")
    assert (found.memory_limit_bytes, found.cpu_limit_pct) == (100_000_000, 80.0)
    hangs = {spec.name: spec.hang_after_s for spec in found.specs}
    assert hangs["cvt/0"] == 2.0
    assert hangs["historian/0"] == hangs["events/0"] == 60.0
    found = planned(tmp_path, "[plant]\nshards = 1\n")
    assert (found.memory_limit_bytes, found.cpu_limit_pct) == (0, 0)


def test_external_programs_do_not_beat(tmp_path: Path) -> None:
    found = planned(tmp_path, "[external.plc]\ncommand = ['python', 'plc.py']\n")
    spec = next(spec for spec in found.specs if spec.name == "external/plc")
    assert (spec.hang_after_s, spec.command) == (0.0, (sys.executable, "plc.py"))


def test_a_name_that_no_page_has_room_for_is_refused_before_an_old_node_is_ended(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="too long"):
        planned(tmp_path, f"[external.{'x' * 70}]\ncommand = 'true'\n")
