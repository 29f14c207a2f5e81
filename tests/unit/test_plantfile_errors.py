"""Plant files that are wrong: all problems are listed, each with file, line, key, value and what would be right."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagwerk.protocols.errors import ConfigError, ConfigErrors
from tagwerk.runtime.plantfile import build, load, parse

BASE = """
[opcua.plc]
url = "opc.tcp://h:4840"
[machine.mash]
class = "mash:Mash"
[tag.f]
type = "float"
[tag.i]
type = "int"
[tag.b]
type = "bool"
[tag.s]
type = "str"
"""


def errors(text: str) -> list[ConfigError]:
    with pytest.raises(ConfigErrors) as caught:
        parse(text, Path("/plant/p.toml"))
    assert all(error.file == "/plant/p.toml" for error in caught.value.errors)
    assert all(error.message and error.expected for error in caught.value.errors)
    return caught.value.errors


# What is added to BASE; then the key, the value as written, and a word of what would be right.
WRONG = [
    # unknown names
    ("[tags.x]", "tags", "tags", "tag (did you mean that?)"),
    ("[tag.x]\nunits = 'bar'", "tag.x.units", "bar", "unit (did you mean that?)"),
    ("[tag.x]\nname = 'y'", "tag.x.name", "y", "one of: type"),
    ("[machine.m]\nclass = 'm:M'\nclass_path = 'm:M'", "machine.m.class_path", "m:M", "class"),
    ("[journal]\ncap = 5", "journal.cap", "5", "cap_pct"),
    ("[tag.line.pump]\ntype = 'bool'", "tag.line.pump", "a table", '[tag."line.pump"]'),
    ("[notify.mail]\ncommand = 'mail'", "notify.mail", "", "this version"),
    ("[host.other]", "host.other", "", "one host"),
    ("[node.second]", "node.second", "second", "[node.main]"),
    # names
    ("[tag.'a b']", 'tag."a b"', "a b", "letters"),
    ("[tag.'']", 'tag.""', "", "letters"),
    ("[alarm.'a-b']\ntag = 'f'\ntype = 'HI'\nlimit = 1", "alarm.a-b", "a-b", "letters"),
    ("[opcua.PLC]\nurl = 'opc.tcp://h:1'", "opcua.PLC", "PLC", "lower-case"),
    ("[external.a-b]\ncommand = 'x'", "external.a-b", "a-b", "lower-case"),
    # types and ranges
    ("plant = 5", "plant", "5", "a table"),
    ("[tag]\nx = 5", "tag.x", "5", "a table"),
    ("alarm = [1]", "alarm", "[1]", "[alarm.NAME]"),
    ("[plant]\nshards = '2'", "plant.shards", "2", "a whole number"),
    ("[plant]\nshards = 2.0", "plant.shards", "2.0", "a whole number"),
    ("[plant]\nshards = 65", "plant.shards", "65", "at most 64"),
    ("[plant]\nname = 5", "plant.name", "5", "a text"),
    ("[plant]\ntag_files = 'a.csv'", "plant.tag_files", "a.csv", "a list of texts"),
    ("[plant]\ngroup = 'users'", "plant.group", "users", "this version"),
    ("[journal]\nsync = 'allways'", "journal.sync", "allways", "always (did you mean that?)"),
    ("[journal]\nsync_interval_s = 0", "journal.sync_interval_s", "0", "more than 0"),
    ("[journal]\ncap_pct = 101", "journal.cap_pct", "101", "at most 100"),
    ("[journal]\ncap_bytes = 5", "journal.cap_bytes", "5", "at least"),
    ("[tag.x]\ntype = 'double'", "tag.x.type", "double", "float"),
    ("[tag.x]\nlow = true", "tag.x.low", "true", "a number"),
    ("[tag.x]\nlow = nan", "tag.x.low", "nan", "a finite number"),
    ("[tag.x]\nhold_s = -1", "tag.x.hold_s", "-1", "at least 0"),
    ("[tag.x]\nstale_after_s = 0.0", "tag.x.stale_after_s", "0.0", "more than 0"),
    ("[tag.x]\nwritable = 1", "tag.x.writable", "1", "true or false"),
    ("[tag.x]\nlabels = ['a', 5]", "tag.x.labels", "5", "a text"),
    ("[tag.x]\ndefault = [5]", "tag.x.default", "[5]", "a number, true, false or a text"),
    ("[history]\nretention_days = 0", "history.retention_days", "0", "more than 0"),
    ("[node.main]\nrestarts = 0", "node.main.restarts", "0", "at least 1"),
    ("[node.main]\nhang_after_s = -5", "node.main.hang_after_s", "-5", "more than 0"),
    ("[external.x]\ncommand = 5", "external.x.command", "5", "a list of texts"),
    ("[external.x]\ncommand = 'x'\nenv = { A = 5 }", "external.x.env.A", "5", "a text"),
    ("[machine.m]\nclass = 'm:M'\nmode = 'thread'", "machine.m.mode", "thread", "async"),
    ("[machine.m]\nclass = 'm:M'\nparameters = { a = [1] }", "machine.m.parameters.a", "[1]", "a number"),
    # missing keys
    ("[opcua.x]", "opcua.x.url", "", "opc.tcp://"),
    ("[machine.m]", "machine.m.class", "", "module:Class"),
    ("[external.x]", "external.x.command", "", "program"),
    ("[alarm.x]\ntype = 'HI'\nlimit = 1", "alarm.x.tag", "", "tag"),
    ("[alarm.x]\ntag = 'f'\nlimit = 1", "alarm.x.type", "", "watches"),
    ("[alarm.x]\ntag = 'f'\ntype = 'HI'", "alarm.x.limit", "", "a number"),
    # tags
    ("[tag.x]\nunit = 'degc'", "tag.x.unit", "degc", "degC"),
    ("[tag.x]\nunit = 'bar'\ndisplay_unit = 'degC'", "tag.x.display_unit", "degC", "same quantity as bar"),
    ("[tag.x]\ndisplay_unit = 'degC'", "tag.x.display_unit", "degC", "a unit beside it"),
    ("[tag.x]\ntype = 'str'\nunit = 'bar'", "tag.x.unit", "bar", "numeric"),
    ("[tag.x]\ntype = 'bool'\nlow = 0", "tag.x.low", "0", "numeric"),
    ("[tag.x]\ntype = 'bool'\ndeadband = 1", "tag.x.deadband", "1", "numeric"),
    ("[tag.x]\nlow = 5\nhigh = 5", "tag.x.low", "5", "less than high, 5"),
    ("[tag.x]\nwrite_low = 5\nwrite_high = 4", "tag.x.write_low", "5", "less than write_high, 4"),
    ("[tag.x]\nlow = 1\nwrite_low = 0", "tag.x.write_low", "0", "at least low, 1"),
    ("[tag.x]\nhigh = 1\nwrite_high = 2", "tag.x.write_high", "2", "at most high, 1"),
    ("[tag.x]\ndeadband_pct = 5", "tag.x.deadband_pct", "5", "low and high"),
    ("[tag.x]\nlow = 0\nhigh = 1\ndeadband_pct = 5\ndeadband = 1", "tag.x.deadband_pct", "5", "one of"),
    ("[tag.x]\ndefault = 'hot'", "tag.x.default", "hot", "a number"),
    ("[tag.x]\ntype = 'int'\ndefault = 1.5", "tag.x.default", "1.5", "a whole number"),
    (f"[tag.x]\ntype = 'int'\ndefault = {2**63}", "tag.x.default", str(2**63), "64 bits"),
    ("[tag.x]\ntype = 'bool'\ndefault = 1", "tag.x.default", "1", "true or false"),
    ("[tag.x]\nlow = 2\ndefault = 1", "tag.x.default", "1", "at least 2"),
    ("[tag.x]\nsource = 'mash'\ndefault = 1", "tag.x.default", "1", "no source"),
    ("[tag.x]\nsource = 'plcc'", "tag.x.source", "plcc", "opcua/plc"),
    ("[tag.x]\nsource = 'machine/plc'", "tag.x.source", "machine/plc", "machine/mash"),
    ("[tag.x]\nsource = 'writer/a b'", "tag.x.source", "writer/a b", "writer/NAME"),
    (
        "[tag.x]\nsource = 'both'\n[machine.both]\nclass='m:M'\n[opcua.both]\nurl='opc.tcp://h:1'",
        "tag.x.source", "both", "machine/both",
    ),
    ("[tag.x]\nsource = 'plc'", "tag.x.node", "", "nsu=URI"),
    ("[tag.x]\nnode = 'i=5'", "tag.x.node", "i=5", "opcua/plc"),
    *(
        (f"[tag.x]\nsource = 'plc'\nnode = '{node}'", "tag.x.node", node, "nsu=URI;s=NAME")
        for node in ("x", "s=", "nsu=;s=a", "ns=x;s=a", "ns=65536;s=a", "i=-1", "i=4294967296", "g=5", "b=$", "q=1")
    ),
    # alarms
    ("[alarm.x]\ntag = 'ff'\ntype = 'HI'\nlimit = 1", "alarm.x.tag", "ff", "f (did you mean that?)"),
    ("[alarm.x]\ntag = 'f'\ntype = 'RATE'\nlimit = 1", "alarm.x.type", "RATE", "one of: HIHI, HI, LO, LOLO, BOOL"),
    ("[alarm.x]\ntag = 'b'\ntype = 'HI'\nlimit = 1", "alarm.x.type", "HI", "BOOL"),
    ("[alarm.x]\ntag = 'i'\ntype = 'BOOL'", "alarm.x.type", "BOOL", "HIHI, HI, LO, LOLO"),
    ("[alarm.x]\ntag = 's'\ntype = 'BOOL'", "alarm.x.type", "BOOL", "another type"),
    ("[alarm.x]\ntag = 'f'\ntype = 'HI'\nlimit = true", "alarm.x.limit", "true", "a number"),
    ("[alarm.x]\ntag = 'b'\ntype = 'BOOL'\nlimit = 1", "alarm.x.limit", "1", "true or false"),
    ("[alarm.x]\ntag = 'b'\ntype = 'BOOL'\ndeadband = 1", "alarm.x.deadband", "1", "no such key"),
    ("[alarm.x]\ntag = 'f'\ntype = 'HI'\nlimit = inf", "alarm.x.limit", "inf", "a finite number"),
    ("[alarm.x]\ntag = 'f'\ntype = 'HI'\nlimit = 1\nseverity = 1001", "alarm.x.severity", "1001", "at most 1000"),
    ("[alarm.x]\ntag = 'f'\ntype = 'HI'\nlimit = 1\npriority = 'urgent'", "alarm.x.priority", "urgent", "critical"),
    ("[alarm.x]\ntag = 'f'\ntype = 'HI'\nlimit = 1\non_delay_s = -1", "alarm.x.on_delay_s", "-1", "at least 0"),
    # links, machines, programs, history
    *(
        (f"[opcua.x]\nurl = '{url}'", "opcua.x.url", url, "opc.tcp://HOST:PORT")
        for url in ("http://h:1", "opc.tcp://h", "opc.tcp://h:0", "opc.tcp://h:65536", "opc.tcp://:1", "opc.tcp://h:1 ")
    ),
    ("[opcua.x]\nurl = 'opc.tcp://h:1'\nsecurity = 'Sign'", "opcua.x.security", "Sign", "sign (did you mean that?)"),
    ("[opcua.x]\nurl = 'opc.tcp://h:1'\nuser = 'me'", "opcua.x.password_file", "", "password"),
    ("[opcua.x]\nurl = 'opc.tcp://h:1'\nuser = 'me'\npassword_file = 'no'", "opcua.x.password_file", "no", "/plant"),
    ("[opcua.x]\nurl = 'opc.tcp://h:1'\nwatchdog = 'beat'", "opcua.x.watchdog", "beat", "nsu=URI"),
    ("[opcua.x]\nurl = 'opc.tcp://h:1'\nqueue_size = 0", "opcua.x.queue_size", "0", "at least 1"),
    ("[machine.m]\nclass = 'mash'", "machine.m.class", "mash", "module:Class"),
    ("[machine.m]\nclass = 'm:M'\ninterval_s = 1\nlease_s = 1.0", "machine.m.lease_s", "1.0", "interval_s, 1"),
    ("[machine.m]\nclass = 'm:M'\nparameters = { 'a b' = 1 }", 'machine.m.parameters."a b"', "a b", "Python name"),
    ("[external.x]\ncommand = \"a 'b\"", "external.x.command", "a 'b", "quotes"),
    ("[external.x]\ncommand = []", "external.x.command", "[]", "program"),
    ("[external.x]\ncommand = 'x'\nenv = { 'A=B' = '' }", 'external.x.env."A=B"', "A=B", "letters"),
    ("[history]\ndisk_warn_pct = 96", "history.disk_warn_pct", "96", "disk_stop_pct, 95"),
    # nodes
    ("[node.main]\nactors = ['*', 'cvtt/0']", "node.main.actors", "cvtt/0", "cvt/0 (did you mean that?)"),
    ("[node.main]\nactors = ['cvt/*']", "node.main.actors", "[cvt/*]", "plant/0, events/0, historian/0"),
    ("[node.main]\nactors = ['*', '[ab]']", "node.main.actors", "[ab]", "globs"),
    ("[node.main]\nneeds = { 'cvt/9' = ['plant/0'] }", 'node.main.needs."cvt/9"', "cvt/9", "cvt/0"),
    ("[node.main]\nneeds = { 'cvt/0' = ['nix/0'] }", 'node.main.needs."cvt/0"', "nix/0", "plant/0"),
    (
        "[node.main]\nneeds = { 'plant/0' = ['alarms/0'] }",
        'node.main.needs."plant/0"',
        "plant/0 needs alarms/0 needs cvt/0 needs plant/0",
        "no circle",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("text", "key", "value", "expected"), WRONG)
def test_each_kind_of_error_is_told_alone(text: str, key: str, value: str, expected: str) -> None:
    whole = text if text.startswith(("plant =", "alarm =", "[tag]")) else BASE + text
    (error,) = errors(whole)
    assert (error.key, error.value) == (key, value)
    assert expected in error.expected
    assert error.line is not None


def test_limits_of_a_tag_rise_from_lolo_to_hihi() -> None:
    limits = {"HIHI": "10", "HI": "10.0", "LO": "12", "LOLO": "12"}
    alarms = "".join(
        f"[alarm.{kind.lower()}]\ntag='f'\ntype='{kind}'\nlimit={limit}\n" for kind, limit in limits.items()
    )
    found = {error.key: (error.value, error.expected) for error in errors(BASE + alarms)}
    assert found == {
        "alarm.lolo.limit": ("12", "less than 12, the LO limit of lo"),
        "alarm.hi.limit": ("10.0", "more than 12, the LO limit of lo"),
        "alarm.hihi.limit": ("10", "more than 10, the HI limit of hi"),
    }


def test_a_tag_has_one_alarm_of_a_type() -> None:
    alarms = "[alarm.one]\ntag='f'\ntype='HI'\nlimit=1\n[alarm.two]\ntag='f'\ntype='HI'\nlimit=2\n"
    (error,) = errors(BASE + alarms)
    assert (error.key, error.value) == ("alarm.two.type", "HI")
    assert "one" in error.expected


def test_all_problems_of_a_file_are_listed_and_no_consequences() -> None:
    text = """
    [plant]
    shards = 0
    [jurnal]
    [tag."a.b"]
    typ = "int"
    type = "flaot"
    unit = "barr"
    default = "x"
    low = "0"
    high = -5
    write_high = -6
    source = "plc"
    [alarm.x]
    tag = "a.b"
    type = "BOOL"
    [alarm.y]
    tag = "a.c"
    type = "HIGH"
    limit = "5"
    [alarm.z]
    """
    found = errors(text)
    assert [(error.line, error.key, error.value) for error in found] == [
        (4, "jurnal", "jurnal"),
        (3, "plant.shards", "0"),
        (13, 'tag."a.b".source', "plc"),
        (6, 'tag."a.b".typ', "int"),
        (7, 'tag."a.b".type', "flaot"),
        (10, 'tag."a.b".low', "0"),
        (8, 'tag."a.b".unit', "barr"),
        (19, "alarm.y.type", "HIGH"),
        (20, "alarm.y.limit", "5"),
        (21, "alarm.z.tag", ""),
        (21, "alarm.z.type", ""),
        (18, "alarm.y.tag", "a.c"),
    ]


@pytest.mark.parametrize(
    ("text", "line", "value"),
    [
        ("[tag.a]\n[tag.b]\n[tag.a]\n", 3, "[tag.a]"),
        ("[tag.a]\nunit = 'bar'\nunit = 'bar'\n", 3, "unit = 'bar'"),
        ("[plant]\nshards 2\n", 2, "shards 2"),
        ("[plant]\nname = 'x", 2, "name = 'x"),
        ("[plant", 1, "[plant"),
    ],
)
def test_syntax_errors_name_the_line(text: str, line: int, value: str) -> None:
    (error,) = errors(text)
    assert (error.line, error.value) == (line, value)


def test_a_file_that_cannot_be_read_is_an_error_too(tmp_path: Path) -> None:
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe")
    for path, expected in ((tmp_path / "gone.toml", "readable"), (tmp_path, "readable"), (binary, "UTF-8")):
        with pytest.raises(ConfigErrors) as caught:
            load(path)
        (error,) = caught.value.errors
        assert error.file == str(path)
        assert expected in error.expected


KEYS = st.sampled_from(
    [
        "plant",
        "tag",
        "alarm",
        "opcua",
        "machine",
        "node",
        "main",
        "external",
        "a",
        "type",
        "limit",
        "needs",
        "unit",
        "url",
    ]
)
SCALARS = st.sampled_from([0, -1, 5, 2**70, True, 1.5, float("nan"), float("inf"), "", "a", "HI", "degC", "*", "["])
VALUES = st.one_of(SCALARS, st.lists(SCALARS, max_size=2), st.dictionaries(KEYS, SCALARS, max_size=3))


@given(st.dictionaries(KEYS, st.dictionaries(KEYS, VALUES, max_size=3), max_size=4))
def test_whatever_stands_in_a_file_it_is_a_plant_or_config_errors(tables: dict[str, object]) -> None:
    with contextlib.suppress(ConfigErrors):
        build(tables, Path("/plant/p.toml"))
