"""Rules between the keys of one table: each gives the problems of one section, tag, alarm, link."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Final

from tagwerk.protocols.names import glob_problem
from tagwerk.runtime import units
from tagwerk.runtime.plantfile_history import INSTALL, store_problem
from tagwerk.runtime.plantfile_models import (
    AlarmConfig,
    ExternalConfig,
    HistorySection,
    LogRule,
    MachineConfig,
    NodeConfig,
    OpcuaConfig,
    PlantSection,
    TagConfig,
)
from tagwerk.runtime.plantfile_syntax import (
    CLASS_FORM,
    NODE_ID_FORM,
    URL_FORM,
    class_problem,
    node_id_problem,
    url_problem,
)
from tagwerk.runtime.plantfile_tables import Problem

_INT64: Final = range(-(1 << 63), 1 << 63)
_NUMERIC_KEYS: Final = ("unit", "display_unit", "low", "high", "write_low", "write_high", "deadband", "deadband_pct")
_DEFAULTS: Final = MappingProxyType({key: getattr(TagConfig(name="sample"), key) for key in _NUMERIC_KEYS})
_IDENTIFIER: Final = re.compile(r"[A-Za-z_]\w*")
_OTHERS: Final = 0o077  # the permissions of everybody but the owner
_UNIT_FORM: Final = "a unit that pint knows, as in degC, bar, m**3/h or %"


def plant_problems(plant: PlantSection) -> Iterator[Problem]:
    """Give what is wrong with `[plant]`."""
    for name in sorted({name for name in plant.tag_files if plant.tag_files.count(name) > 1}):
        yield Problem(("tag_files",), "a file is named more than once", name, "each file once")
    if plant.group:
        expected = "no such key: in this version only the user who runs the plant may talk to it"
        yield Problem(("group",), "the key is not in this version", plant.group, expected)


def history_problems(history: HistorySection) -> Iterator[Problem]:
    """Give what is wrong with `[history]`."""
    if history.store:
        wrong = store_problem(history.store)
        if wrong is not None:
            what, shown, expected = wrong
            yield Problem(("store",), what, shown, expected)
        elif find_spec("psycopg") is None:
            yield Problem(("store",), "the library psycopg is not installed", None, INSTALL)
    elif history.layout != "chunks":
        yield Problem(("layout",), "only a database has a choice", history.layout, "a store beside it, or no such key")
    if history.disk_warn_pct >= history.disk_stop_pct:
        expected = f"less than disk_stop_pct, {history.disk_stop_pct:g}"
        yield Problem(
            ("disk_warn_pct",), "the alarm would come too late", history.disk_warn_pct, expected, ("disk_stop_pct",)
        )


def tag_problems(tag: TagConfig) -> Iterator[Problem]:
    """Give what is wrong with one tag, its `source` aside."""
    if tag.type in ("bool", "str"):
        for key in _NUMERIC_KEYS:
            value = getattr(tag, key)
            if value is not None and value != _DEFAULTS[key]:
                yield Problem(
                    (key,), f"a {tag.type} tag has no {key}", value, "no such key, or a numeric type", ("type",)
                )
    else:
        if tag.unit or tag.display_unit:
            yield from _unit_problems(tag)
        yield from _range_problems(tag)
        if tag.deadband_pct is not None:
            yield from _deadband_problems(tag)
    if isinstance(tag.log, LogRule):
        yield from _log_problems(tag, tag.log)
    if tag.default is not None:
        yield from _default_problems(tag)
    if tag.node and (problem := node_id_problem(tag.node)):
        yield Problem(("node",), problem, tag.node, NODE_ID_FORM)


def _unit_problems(tag: TagConfig) -> Iterator[Problem]:
    wrong = False
    for key, unit in (("unit", tag.unit), ("display_unit", tag.display_unit)):
        if problem := units.check_unit(unit):
            wrong = True
            yield Problem((key,), problem, unit, _UNIT_FORM)
    if not tag.display_unit or wrong:
        return
    if not tag.unit:
        yield Problem(
            ("display_unit",), "there is no unit to convert from", tag.display_unit, "a unit beside it", ("unit",)
        )
    elif not _compatible(tag.unit, tag.display_unit):
        expected = f"a unit of the same quantity as {tag.unit}"
        yield Problem(("display_unit",), "the value cannot be converted to it", tag.display_unit, expected, ("unit",))


@lru_cache(maxsize=1024)
def _compatible(unit: str, display_unit: str) -> bool:
    return units.compatible(unit, display_unit)


def _range_problems(tag: TagConfig) -> Iterator[Problem]:
    for lower, bottom, upper, top in (
        ("low", tag.low, "high", tag.high),
        ("write_low", tag.write_low, "write_high", tag.write_high),
    ):
        if bottom is not None and top is not None and bottom >= top:
            yield Problem((lower,), f"{lower} is not below {upper}", bottom, f"less than {upper}, {top:g}", (upper,))
    for key, value in (("write_low", tag.write_low), ("write_high", tag.write_high)):
        if value is None:
            continue
        if tag.low is not None and value < tag.low:
            yield Problem((key,), f"{key} is below low", value, f"at least low, {tag.low:g}", ("low",))
        if tag.high is not None and value > tag.high:
            yield Problem((key,), f"{key} is above high", value, f"at most high, {tag.high:g}", ("high",))


def _deadband_problems(tag: TagConfig) -> Iterator[Problem]:
    if tag.deadband:
        expected = "one of deadband and deadband_pct"
        yield Problem(("deadband_pct",), "the deadband is given twice", tag.deadband_pct, expected, ("deadband",))
    if tag.low is None or tag.high is None:
        expected = "low and high beside it"
        yield Problem(
            ("deadband_pct",), "there is no range to take a percentage of", tag.deadband_pct, expected, ("low", "high")
        )


def _log_problems(tag: TagConfig, rule: LogRule) -> Iterator[Problem]:
    if tag.type in ("bool", "str"):
        expected = "true or false, or a numeric type"
        yield Problem(("log",), f"every sample of a {tag.type} tag is logged, or none", None, expected, ("type",))
    elif rule.deadband is None and rule.compression_dev is None:
        expected = "deadband or compression_dev in it, or log = true"
        yield Problem(("log",), "the rule leaves nothing out", None, expected)
    elif rule.deadband and rule.compression_dev is not None and rule.deadband > rule.compression_dev / 2:
        message = f"deadband: it is more than half of compression_dev, {rule.compression_dev:g}"
        expected = f"at most {rule.compression_dev / 2:g}: together they keep within compression_dev"
        yield Problem(("log", "deadband"), message, rule.deadband, expected)


def _default_problems(tag: TagConfig) -> Iterator[Problem]:
    value = tag.default
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    fits, expected = {
        "float": (number, "a number"),
        "int": (isinstance(value, int) and number and value in _INT64, "a whole number of 64 bits"),
        "bool": (isinstance(value, bool), "true or false"),
        "str": (isinstance(value, str), "a text"),
    }[tag.type]
    if not fits:
        yield Problem(("default",), f"the value does not fit the type {tag.type}", value, expected, ("type",))
    elif isinstance(value, (int, float)) and number:
        if tag.low is not None and value < tag.low:
            yield Problem(("default",), "the value is below low", value, f"at least {tag.low:g}", ("low",))
        if tag.high is not None and value > tag.high:
            yield Problem(("default",), "the value is above high", value, f"at most {tag.high:g}", ("high",))
    if tag.source:
        # Until its owner has spoken, a tag has no value: a start value would look as if it were measured.
        expected = "no default, or no source"
        yield Problem(("default",), "the first value of this tag comes from its source", value, expected, ("source",))


def alarm_problems(alarm: AlarmConfig) -> Iterator[Problem]:
    """Give what is wrong with one alarm, its tag and the tag's other alarms aside."""
    if alarm.limit is None:
        yield Problem(("limit",), "the key is missing", None, f"the limit of a {alarm.type} alarm, a number", ("type",))
    elif isinstance(alarm.limit, bool) != (alarm.type == "BOOL"):
        expected = "true or false" if alarm.type == "BOOL" else "a number"
        yield Problem(("limit",), f"the limit does not fit the type {alarm.type}", alarm.limit, expected, ("type",))
    if alarm.type == "BOOL" and alarm.deadband:
        yield Problem(("deadband",), "a BOOL alarm has no deadband", alarm.deadband, "no such key", ("type",))


def opcua_problems(link: OpcuaConfig, folder: Path) -> Iterator[Problem]:
    """Give what is wrong with one OPC UA link; files are relative to `folder`."""
    if problem := url_problem(link.url):
        yield Problem(("url",), problem, link.url, URL_FORM)
    if link.user and not link.password_file:
        yield Problem(
            ("password_file",), "the key is missing", None, "the file with the password of the user", ("user",)
        )
    if link.password_file and not link.user:
        expected = "a user beside it"
        yield Problem(("password_file",), "there is a password, but no user", link.password_file, expected, ("user",))
    path = folder / link.password_file
    if link.password_file and not path.is_file():
        yield Problem(("password_file",), "there is no such file", link.password_file, f"a file in {folder}")
    elif link.password_file and path.stat().st_mode & _OTHERS:
        yield Problem(("password_file",), "the password is open to others", link.password_file, f"chmod 600 {path}")
    if link.watchdog and (problem := node_id_problem(link.watchdog)):
        yield Problem(("watchdog",), problem, link.watchdog, NODE_ID_FORM)


def machine_problems(machine: MachineConfig) -> Iterator[Problem]:
    """Give what is wrong with one machine, its code aside."""
    if problem := class_problem(machine.class_path):
        yield Problem(("class",), problem, machine.class_path, CLASS_FORM)
    if machine.lease_s is not None and machine.lease_s <= machine.interval_s:
        expected = f"more than interval_s, {machine.interval_s:g}"
        yield Problem(
            ("lease_s",), "the lease would lapse between two cycles", machine.lease_s, expected, ("interval_s",)
        )
    for name in machine.parameters:
        if not _IDENTIFIER.fullmatch(name):
            yield Problem(("parameters", name), "it is not the name of a parameter", name, "a Python name")


def node_problems(node: NodeConfig) -> Iterator[Problem]:
    """Give what is wrong with a node, the names of the actors aside."""
    for glob in node.actors:
        if problem := glob_problem(glob):
            yield Problem(("actors",), problem, glob, "actor names or globs, as in cvt/* or machine/mash")


def external_problems(program: ExternalConfig) -> Iterator[Problem]:
    """Give what is wrong with one external program."""
    try:
        words = shlex.split(program.command) if isinstance(program.command, str) else program.command
    except ValueError as error:
        yield Problem(("command",), f"the command cannot be split: {error}", program.command, "quotes in pairs")
        return
    if not words or not words[0]:
        yield Problem(("command",), "the command is empty", program.command, "a program and its arguments")
    for name in program.env:
        if not _IDENTIFIER.fullmatch(name):
            yield Problem(("env", name), "it is not the name of an environment variable", name, "letters, digits and _")
