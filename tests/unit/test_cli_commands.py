"""The commands against a plant that is not there: shapes of JSON, exit codes, what is asked of whom."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from tagwerk.protocols import history as h
from tagwerk.protocols.alarms import AlarmRow, GetOccurrences, Occurrence, OccurrenceList
from tagwerk.protocols.errors import NotSent, PeerDown, Refused, TagwerkError, Timeout, Unavailable, Unknown
from tagwerk.protocols.machines import GetMachine, MachineState, MachineVariable, SendEvent, SetParameter
from tagwerk.protocols.message import Message
from tagwerk.protocols.plantwide import DeadLetter, DeadLetters, Event, EventList, GetDeadLetters, GetEvents
from tagwerk.protocols.samples import Samples, TagValue, ValueType, encode, make
from tagwerk.protocols.tags import ExplainTag, TagDef, TagExplained
from tagwerk.runtime.cli import completion, events, failure
from tagwerk.runtime.cli.app import run
from tagwerk.runtime.cli.session import Session
from tagwerk.runtime.definitions import DefinitionTable
from tagwerk.runtime.node_ctl import NodeCtl
from tagwerk.runtime.node_verbs import Reply

NOW_NS = 1_700_000_000_000_000_000
TAGS = (
    TagDef(1, "mash.temperature", "float", 0, unit="degC", low=0.0, high=100.0, writable=True),
    TagDef(2, "mash.stirrer", "bool", 1, writable=True),
    TagDef(3, "mash.batch", "str", 0, description="which one"),
    TagDef(4, "mash.count", "int", 0),
)
TABLE = DefinitionTable(1, TAGS)
VALUES: dict[str, float | int | bool | str] = {
    "mash.temperature": 65.5,
    "mash.stirrer": True,
    "mash.batch": "B1",
    "mash.count": 3,
}
ALARM = AlarmRow(
    "mash.hi", "mash.temperature", "HI", 80.0, "degC", "high", 700, True, False, False, False, False, False, True,
    "B", "mash.hi/1", NOW_NS, None, "", 81.0, 0, text="too warm",
)  # fmt: skip
MACHINE = MachineState(
    "mash", "mash:Mash", "idle", True, "", ("start",),
    (MachineVariable("speed", "parameter", "", "", 30.0), MachineVariable("level", "input", "a.b", "percent", 5.0)),
    7, 0.5,
)  # fmt: skip


class FakePlant:
    """Answers from constants; remembers what was asked. Anything in `answers` comes first."""

    def __init__(self) -> None:
        self.user = "me"
        self.host = "here"
        self.asked: list[tuple[str, Message]] = []
        self.written: list[tuple[str, object, str]] = []
        self.answers: dict[type[Message], Message | TagwerkError] = {}
        self.batches: list[Samples] = []
        self.failure: TagwerkError | None = None

    def __enter__(self) -> FakePlant:
        return self

    def __exit__(self, *exc: object) -> None: ...

    def definition(self, tag: str) -> TagDef:
        if tag not in TABLE.by_name:
            raise Refused("UnknownTag", f"there is no tag {tag!r}", tag)
        return TABLE.by_name[tag]

    def definitions(self, *globs: str) -> list[TagDef]:
        prefixes = tuple(glob.rstrip("*") for glob in globs or ("*",))
        return [tag for tag in TAGS if tag.name.startswith(prefixes)]

    def read(self, tag: str) -> TagValue:
        return next(iter(self.read_many([tag])))

    def read_many(self, tags: Any) -> list[TagValue]:
        return [TagValue(t, VALUES[t], self.definition(t).unit, 0, NOW_NS, NOW_NS + 1) for t in tags]

    def write(self, tag: str, value: float | int | bool | str, *, reason: str = "") -> TagValue:
        if self.failure is not None:
            raise self.failure
        self.written.append((tag, value, reason))
        return TagValue(tag, value, self.definition(tag).unit, 0, NOW_NS, NOW_NS)

    def watch(self, *globs: str, mode: str) -> Iterator[Samples]:
        yield from self.batches
        raise KeyboardInterrupt

    def alarms(self, *, only_open: bool = False, names: Any = ()) -> list[AlarmRow]:
        return [ALARM] if not names or ALARM.name in names else []

    def ack(self, name: str, *, occurrence: str = "", comment: str = "") -> AlarmRow:
        if name != ALARM.name:
            raise Refused("UnknownTag", f"no alarm is named {name!r}", name)
        return ALARM

    def query(self, actor: str, message: Message, reply: type[Message], timeout_s: float | None = None) -> Message:
        return self.ask(actor, message)

    def ask(self, actor: str, message: Message, timeout_s: float | None = None) -> Message:
        self.asked.append((actor, message))
        answer = self.answers[type(message)]
        if isinstance(answer, TagwerkError):
            raise answer
        return answer


Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def plant(monkeypatch: pytest.MonkeyPatch) -> FakePlant:
    actors = ("plant/0", "machine/mash")
    monkeypatch.setattr(Session, "actors", lambda _: actors)
    return FakePlant()


@pytest.fixture
def call(plant: FakePlant, capsys: pytest.CaptureFixture[str]) -> Call:
    def run_it(*arguments: str) -> tuple[int, str, str]:
        code = run(list(arguments), lambda _session, _timeout: plant)  # type: ignore[arg-type, return-value]
        out, err = capsys.readouterr()
        return code, out, err

    return run_it


def error_of(text: str) -> dict[str, Any]:
    error: dict[str, Any] = json.loads(text)["error"]
    assert set(error) == {"code", "message", "tag", "file", "key", "value"}
    return error


# --- tags ------------------------------------------------------------------------------------------------------------


def test_read_gives_one_array(call: Call) -> None:
    code, out, err = call("read", "mash.temperature", "mash.stirrer", "--json")
    assert (code, err) == (0, "")
    first, second = json.loads(out)
    assert first == {
        "tag": "mash.temperature", "value": 65.5, "unit": "degC", "quality": "Good", "quality_code": 0,
        "time": "2023-11-14T22:13:20.000000000Z", "received": "2023-11-14T22:13:20.000000001Z",
    }  # fmt: skip
    assert second["value"] is True


def test_read_as_a_table_prints_the_unit(call: Call) -> None:
    code, out, _ = call("read", "mash.temperature", "--utc")
    assert code == 0
    assert out.splitlines()[1].split() == ["mash.temperature", "65.5", "degC", "Good", "2023-11-14", "22:13:20.000Z"]


@pytest.mark.parametrize("arguments", [("--json", "read", "no.tag"), ("read", "no.tag", "--json")])
def test_an_unknown_tag_exits_with_1_and_names_it(call: Call, arguments: tuple[str, ...]) -> None:
    code, out, err = call(*arguments)
    assert (code, out) == (1, "")
    error = error_of(err)
    assert (error["code"], error["tag"]) == ("UnknownTag", "no.tag")
    assert error["file"] is None


def test_a_glob_that_matches_nothing_is_not_found_by_read_and_empty_for_tags(call: Call) -> None:
    assert call("read", "cellar.*")[0] == 1
    assert call("tags", "cellar.*", "--json")[:2] == (0, "[]\n")


def test_tags_say_what_they_are(call: Call) -> None:
    code, out, _ = call("tags", "mash.*", "--json")
    rows = {row["tag"]: row for row in json.loads(out)}
    assert code == 0
    assert rows["mash.temperature"]["high"] == 100.0
    assert rows["mash.batch"]["type"] == "str"
    assert rows["mash.count"]["value"] == 3


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("mash.temperature", "-5"), -5.0),
        (("mash.temperature", "149 degF"), 65.0),
        (("mash.temperature", "149", "--unit", "degF"), 65.0),
        (("mash.stirrer", "off"), False),
        (("mash.batch", "--", "--json"), "--json"),
        (("mash.count", "7"), 7),
    ],
)
def test_write_reads_the_value_as_the_tag_is(
    call: Call, plant: FakePlant, arguments: tuple[str, ...], expected: object
) -> None:
    code, _, err = call("write", *arguments)
    assert (code, err) == (0, "")
    assert plant.written[0][1] == pytest.approx(expected)


def test_write_shows_the_value_read_back(call: Call, plant: FakePlant) -> None:
    code, out, _ = call("write", "mash.temperature", "66", "--reason", "mash out", "--json", "--user", "anna")
    assert code == 0
    assert json.loads(out)["value"] == 66.0
    assert plant.written == [("mash.temperature", 66.0, "mash out")]
    assert plant.user == "anna"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Refused("ReadOnly", "no", "mash.temperature"), 1),
        (NotSent("not sent"), 3),
        (PeerDown("gone"), 3),
        (Unavailable("down"), 3),
        (Unknown("who knows"), 4),
    ],
)
def test_exit_codes_of_a_write(call: Call, plant: FakePlant, error: TagwerkError, code: int) -> None:
    plant.failure = error
    got, out, err = call("write", "mash.temperature", "5", "--json")
    assert (got, out) == (code, "")
    assert error_of(err)["code"] in (type(error).__name__, "ReadOnly")


def test_watch_shows_the_last_value_with_its_new_quality_and_ends_with_130(call: Call, plant: FakePlant) -> None:
    first = make(ValueType.FLOAT, [1], [65.5], NOW_NS)
    lost = make(ValueType.QUALITY, [1], None, NOW_NS + 1, [0x80310000])
    plant.batches = [replace(batch, catalog=TABLE) for batch in (first, lost)]
    code, out, _ = call("watch", "mash.*", "--json")
    assert code == 130
    rows = [json.loads(line) for line in out.splitlines()]
    assert [(row["value"], row["quality"]) for row in rows] == [(65.5, "Good"), (65.5, "BadNoCommunication")]
    assert all(row["complete"] for row in rows)


def test_why_tells_what_the_shard_says(call: Call, plant: FakePlant) -> None:
    plant.answers[ExplainTag] = TagExplained((("source", "opcua/plc"),))
    code, out, _ = call("why", "mash.stirrer", "--json")
    assert code == 0
    assert json.loads(out)["lines"] == [{"what": "source", "detail": "opcua/plc"}]
    assert plant.asked == [("cvt/1", ExplainTag(2))]


# --- history ---------------------------------------------------------------------------------------------------------


def page(*batches: Samples, next_after: int | None = None) -> h.HistoryPage:
    return h.HistoryPage((encode(batches),), next_after)


def test_history_as_csv(call: Call, plant: FakePlant) -> None:
    values = make(ValueType.FLOAT, [1, 1], [0.1, np.nan], [NOW_NS, NOW_NS + 1], [0, 0x80000000])
    gap = make(ValueType.QUALITY, [1], None, NOW_NS + 2, [0x80310000])
    plant.answers[h.GetHistory] = page(values, gap)
    code, out, _ = call("history", "mash.temperature", "--csv", "--from", "2023-11-14T22:13:20Z")
    assert code == 0
    rows = list(csv.reader(io.StringIO(out)))
    assert out.splitlines()[0] == "time,tag,value,unit,quality"
    assert rows[1] == ["2023-11-14T22:13:20.000000000Z", "mash.temperature", "0.1", "degC", "Good"]
    assert [row[2] for row in rows[2:]] == ["", ""]
    assert rows[3][4] == "BadNoCommunication"
    _, question = plant.asked[0]
    assert isinstance(question, h.GetHistory)
    assert (question.start_ns, question.limit, question.newest) == (NOW_NS, 0, False)


def test_history_asks_page_by_page(plant: FakePlant, call: Call) -> None:
    pages = [page(make(ValueType.INT, [4], [n], NOW_NS + n), next_after=n if n < 3 else None) for n in (1, 2, 3)]
    asked: list[int] = []

    def query(_actor: str, message: h.GetHistory, _reply: object) -> Message:
        asked.append(message.after)
        return pages[len(asked) - 1]

    plant.query = query  # type: ignore[method-assign, assignment]
    code, out, _ = call("history", "mash.count", "--json")
    assert code == 0
    assert [row["value"] for row in json.loads(out)] == [1, 2, 3]
    assert asked == [0, 1, 2]


def test_limit_means_the_newest_unless_a_start_is_given(call: Call, plant: FakePlant) -> None:
    plant.answers[h.GetHistory] = page()
    call("history", "mash.count", "--limit", "5", "--json")
    call("history", "mash.count", "--limit", "5", "--from", "now-1h", "--bounds", "--json")
    questions = [message for _, message in plant.asked if isinstance(message, h.GetHistory)]
    assert [(one.limit, one.newest, one.bounds) for one in questions] == [(5, True, False), (5, False, True)]


def test_history_that_is_behind_says_so(call: Call, plant: FakePlant) -> None:
    plant.answers[h.GetHistory] = h.HistoryPage((), None, behind=True)
    code, out, err = call("history", "mash.count", "--json")
    assert (code, out) == (0, "[]\n")
    assert "behind" in err


@pytest.mark.parametrize(
    "arguments",
    [
        ("--last", "1m", "--from", "now"),
        ("--last", "soon"),
        ("--from", "now", "--to", "now-1h"),
        ("--csv", "--plot"),
        ("--csv", "--json"),
        ("--limit", "0"),
    ],
)
def test_a_wrong_span_is_a_usage_error(call: Call, arguments: tuple[str, ...]) -> None:
    code, out, err = call("history", "mash.count", *arguments)
    assert (code, out) == (2, "")
    assert err


def test_a_plot_has_a_gap_where_the_value_was_bad(call: Call, plant: FakePlant) -> None:
    stamps = [NOW_NS + n * 10**9 for n in range(90)]
    quality = [0x80310000 if 30 <= n < 60 else 0 for n in range(90)]
    plant.answers[h.GetTrend] = page(make(ValueType.FLOAT, [1] * 90, [5.0] * 45 + [6.0] * 45, stamps, quality))
    span = ("--from", "2023-11-14T22:13:20Z", "--to", "2023-11-14T22:15:00Z")
    code, out, err = call("history", "mash.temperature", "--plot", "--utc", *span)
    assert (code, err) == (0, "")
    assert "mash.temperature [degC]" in out
    assert "11-14 22:13:20" in out
    assert "\x1b" not in out


def test_texts_cannot_be_plotted(call: Call, plant: FakePlant) -> None:
    plant.answers[h.GetTrend] = page()
    assert call("history", "mash.batch", "--plot")[0] == 1
    code, _, err = call("history", "mash.temperature", "--plot")
    assert (code, "nothing to plot" in err) == (1, True)


# --- alarms, events, machines ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments", [("alarms",), ("alarms", "list"), ("alarms", "--open"), ("alarms", "list", "mash.hi")]
)
def test_alarms(call: Call, arguments: tuple[str, ...]) -> None:
    code, out, _ = call(*arguments, "--json")
    (row,) = json.loads(out)
    assert code == 0
    assert [key for key in row if key not in ("quality_code", "area", "text", "acked_at", "comment")] == [
        "name",
        "tag",
        "type",
        "limit",
        "unit",
        "priority",
        "severity",
        "active",
        "acked",
        "latched",
        "shelved",
        "suppressed",
        "out_of_service",
        "enabled",
        "letter",
        "occurrence",
        "raised",
        "cleared",
        "acked_by",
        "value",
        "quality",
    ]
    assert (row["raised"], row["cleared"], row["quality"]) == ("2023-11-14T22:13:20.000000000Z", None, "Good")
    assert "ALARM" in call(*arguments)[1]


def test_acknowledging(call: Call) -> None:
    assert json.loads(call("ack", "mash.hi", "--json")[1])["name"] == "mash.hi"
    assert call("alarms", "ack", "mash.hi", "--comment", "seen")[0] == 0
    assert call("alarms", "ack", "no.alarm")[0] == 1
    assert call("alarms", "list", "no.alarm")[0] == 1


def test_events(call: Call, plant: FakePlant) -> None:
    event = Event(NOW_NS, "me", "here", "write", "mash.stirrer", "true", "false", "why not")
    plant.answers[GetEvents] = EventList(((5, event),))
    code, out, _ = call("events", "--json", "--limit", "3")
    (row,) = json.loads(out)
    assert code == 0
    assert row == {
        "time": "2023-11-14T22:13:20.000000000Z", "user": "me", "host": "here", "kind": "write",
        "target": "mash.stirrer", "before": "true", "after": "false", "reason": "why not", "id": 5,
    }  # fmt: skip
    assert plant.asked == [("events/0", GetEvents(3))]


def test_events_of_a_span_are_read_page_by_page_into_csv(
    call: Call, plant: FakePlant, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = [(n, Event(NOW_NS + n, "me", "here", "write", "mash.stirrer", "", "", 'a, "b"')) for n in range(1, 8)]
    monkeypatch.setattr(events, "PAGE_EVENTS", 3)

    def query(_actor: str, asked: GetEvents, _reply: object) -> Message:
        plant.asked.append(("events/0", asked))
        fits = [one for one in log if one[0] > asked.after_id and one[0] < (asked.before_id or 100)]
        return EventList(tuple(fits[: asked.limit] if asked.oldest_first else fits[-asked.limit :]))

    plant.query = query  # type: ignore[method-assign, assignment]
    code, out, _ = call("events", "--last", "1d", "--kind", "wr*", "--kind", "ack", "--by", "me", "--csv")
    rows = list(csv.reader(io.StringIO(out)))
    assert (code, rows[0][0], len(rows)) == (0, "time", 8)
    assert rows[1][1:] == ["me", "here", "write", "mash.stirrer", "", "", 'a, "b"']
    asked = [one for _, one in plant.asked if isinstance(one, GetEvents)]
    assert [one.after_id for one in asked] == [0, 3, 6, 7]
    assert {(one.kinds, one.user, one.oldest_first) for one in asked} == {(("wr*", "ack"), "me", True)}
    assert [row["id"] for row in json.loads(call("events", "--limit", "5", "--json")[1])] == [3, 4, 5, 6, 7]


def test_alarm_history(call: Call, plant: FakePlant) -> None:
    first = Occurrence("mash.hi/1", "mash.hi", NOW_NS, NOW_NS + 5, None, "", "", 81.0)
    gone = Occurrence("old.hi/1", "old.hi", NOW_NS + 9, None, None, "", "", True, late=True)

    def query(_actor: str, asked: GetOccurrences, _reply: object) -> Message:
        plant.asked.append(("alarms/0", asked))
        return OccurrenceList((first, gone) if asked.beyond is None else ())

    plant.query = query  # type: ignore[method-assign, assignment]
    code, out, _ = call("alarms", "history", "*.hi", "--unacked", "--json")
    rows = json.loads(out)
    assert code == 0
    assert [(row["occurrence"], row["priority"], row["value"], row["late"]) for row in rows] == [
        ("mash.hi/1", "high", 81.0, False), ("old.hi/1", None, True, True),
    ]  # fmt: skip
    assert rows[0]["cleared"] == "2023-11-14T22:13:20.000000005Z"
    (_, asked), *_ = plant.asked
    assert isinstance(asked, GetOccurrences)
    assert (asked.name, asked.unacked, asked.oldest_first) == ("*.hi", True, False)
    assert len(json.loads(call("alarms", "history", "--priority", "high", "--json")[1])) == 1
    assert [row["name"] for row in json.loads(call("alarms", "history", "--limit", "1", "--json")[1])] == ["old.hi"]
    assert call("alarms", "history", "--last", "1d", "--csv")[1].splitlines()[2].startswith("old.hi/1,old.hi,,,")
    assert call("alarms", "history", "--utc")[1].splitlines()[1].split()[0] == "mash.hi"
    assert call("alarms", "history", "--priority", "hihg")[0] == 2
    assert call("alarms", "history", "[a]*")[0] == 1


def test_deadletters_of_all_actors_by_time(call: Call, plant: FakePlant) -> None:
    letters = (DeadLetter(NOW_NS, "a/0", "b/0", "WriteTag", "unknown: gone", 10),)
    plant.answers[GetDeadLetters] = DeadLetters(1, letters)
    code, out, _ = call("deadletters", "--json")
    assert code == 0
    assert [actor for actor, _ in plant.asked] == ["plant/0", "machine/mash"]
    assert list(json.loads(out)[0]) == ["time", "from", "to", "type", "reason", "bytes"]
    plant.answers[GetDeadLetters] = DeadLetters(1_203, letters, (("nonsense", 1_200), ("unknown", 3)))
    _, _, err = call("deadletters", "--json")
    assert "plant/0 counted 1203 (1200 nonsense, 3 unknown)" in err
    plant.answers[GetDeadLetters] = Timeout("busy")
    code, out, err = call("deadletters", "--json")
    assert (code, out) == (0, "[]\n")
    assert "plant/0 does not answer" in err


def test_machine_list_show_send_set(call: Call, plant: FakePlant) -> None:
    plant.answers = dict.fromkeys((GetMachine, SendEvent, SetParameter), MACHINE)
    assert json.loads(call("machine", "--json")[1])[0]["events"] == ["start"]
    assert json.loads(call("machine", "show", "mash", "--json")[1])["variables"][1]["tag"] == "a.b"
    assert call("machine", "send", "machine/mash", "start", "--reason", "go")[0] == 0
    assert call("machine", "set", "mash", "speed", "-3")[0] == 0
    assert plant.asked[-3:] == [
        ("machine/mash", SendEvent("start", "me", "here", "go")),
        ("machine/mash", GetMachine()),
        ("machine/mash", SetParameter("speed", -3.0, "me", "here")),
    ]
    assert call("machine", "show", "fermenter")[0] == 1
    assert call("machine", "set", "mash", "level", "3")[0] == 1


def test_a_machine_that_does_not_answer_is_listed(call: Call, plant: FakePlant) -> None:
    plant.answers[GetMachine] = PeerDown("machine/mash is not running")
    code, out, _ = call("machine", "list", "--json")
    assert code == 0
    row = json.loads(out)[0]
    assert (row["name"], row["state"], row["running"]) == ("mash", None, False)
    assert call("machine", "list")[0] == 0


# --- the root --------------------------------------------------------------------------------------------------------


def test_no_plant(capsys: pytest.CaptureFixture[str], tmp_path: Any) -> None:
    for arguments in (("read", "a.b"), ("status",), ("restart", "cvt/0"), ("down",), ("machine",), ("deadletters",)):
        assert run([*arguments, "--home", str(tmp_path / "none")]) == 3
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("error: no plant is up in ")


@pytest.mark.parametrize(
    "arguments",
    [(), ("reed", "a.b"), ("read",), ("read", "a.b", "--nope"), ("--timeout", "0", "status"), ("alarms", "ack")],
)
def test_usage_errors(call: Call, arguments: tuple[str, ...]) -> None:
    assert call(*arguments)[0] == 2


def test_usage_errors_in_json(call: Call) -> None:
    code, out, err = call("reed", "--json")
    assert (code, out) == (2, "")
    error = error_of(err)
    assert error["code"] == "Usage"
    assert "read" in error["message"]


@pytest.mark.parametrize("command", ["", "up", "history", "alarms ack", "machine set", "opcua browse"])
def test_every_command_has_help(call: Call, command: str) -> None:
    code, out, _ = call(*command.split(), "--help")
    assert code == 0
    assert "Usage: tagwerk" in out
    assert command in ("",) or "tagwerk " + command in out


def test_version(call: Call) -> None:
    import tagwerk

    assert call("version")[1] == f"tagwerk {tagwerk.__version__}\n"
    assert json.loads(call("version", "--json")[1]) == {"version": tagwerk.__version__}


def test_a_schema_is_json(call: Call) -> None:
    assert "tag" in json.loads(call("schema")[1])["properties"]


def test_check_lists_all_errors_with_their_places(call: Call, tmp_path: Any) -> None:
    path = tmp_path / "plant.toml"
    path.write_text('[tag."a.b"]\ntype = "number"\nunit = "bananas"\n', encoding="utf-8")
    code, out, _ = call("check", str(path), "--json")
    rows = json.loads(out)
    assert code == 2
    assert list(rows[0]) == ["file", "line", "key", "value", "message", "expected"]
    assert {row["line"] for row in rows} == {2, 3}
    code, out, err = call("check", str(path))
    assert (code, out) == (2, "")
    assert err.count("error: ") == len(rows)


def test_check_of_a_sound_plant(call: Call, tmp_path: Any) -> None:
    path = tmp_path / "plant.toml"
    path.write_text('[tag."a.b"]\n', encoding="utf-8")
    assert call("check", str(path), "--json") == (0, "[]\n", "")
    assert call("check", str(path))[1] == f"{path}: sound (1 tag, 0 alarms, 0 OPC UA links, 0 machines)\n"


def test_up_refuses_a_wrong_plant_before_anything_is_made(call: Call, tmp_path: Any) -> None:
    path = tmp_path / "plant.toml"
    path.write_text("[tags]\n", encoding="utf-8")
    assert call("up", str(path), "--home", str(tmp_path / "home"))[0] == 2
    assert not (tmp_path / "home").exists()


def test_many_errors_in_json_are_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    from tagwerk.protocols.errors import ConfigError, ConfigErrors

    def work() -> int:
        raise ConfigErrors([ConfigError("one", file="f", key="k", value="v", line=3), ConfigError("two")])

    assert failure.guarded(work, as_json=True) == 2
    told = json.loads(capsys.readouterr().err)
    assert told["error"]["file"] == "f:3"
    assert [row["message"] for row in told["errors"]] == ["f:3: k: one (got v)", "two"]


def test_ctrl_c_is_130(capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> int:
        raise KeyboardInterrupt

    assert failure.guarded(work, as_json=False) == 130
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--last", "99999999999d"),
        ("--from", "now-99999999d"),
        ("--limit", "99999999999999999999"),
    ],
)
def test_what_no_message_can_hold_is_a_usage_error(call: Call, arguments: tuple[str, ...]) -> None:
    code, out, err = call("history", "mash.temperature", *arguments)
    assert (code, out) == (2, "")
    assert "error: Invalid value" in err


def test_history_takes_globs_and_says_when_there_is_nothing(call: Call, plant: FakePlant) -> None:
    plant.answers[h.GetHistory] = h.HistoryPage((), None, False)
    code, out, err = call("history", "mash.*", "--last", "1m")
    assert (code, err) == (0, "nothing was recorded in this span\n")
    assert len(out.splitlines()) == 1
    assert len(plant.asked) == len(TAGS)
    assert call("history", "cellar.*")[0] == 1


def test_watch_refuses_a_name_that_is_none(call: Call) -> None:
    code, _, err = call("watch", "mash.temprature", "--json")
    assert (code, error_of(err)["tag"]) == (1, "mash.temprature")


def test_a_machine_that_is_none_is_named(call: Call) -> None:
    code, _, err = call("machine", "show", "mesh", "--json")
    error = error_of(err)
    assert (code, error["code"], error["tag"]) == (1, "UnknownTag", "mesh")
    assert "did you mean mash?" in error["message"]


@pytest.mark.parametrize(
    ("name", "hint"),
    [("ctv/0", "did you mean cvt/0?"), ("node/main", "`tagwerk down`"), ("x", "there are plant/0, cvt/0")],
)
def test_an_actor_that_is_none_gives_a_hint(call: Call, monkeypatch: pytest.MonkeyPatch, name: str, hint: str) -> None:
    monkeypatch.setattr(NodeCtl, "call", lambda *_: Reply(False, f"this node has no actor {name!r}"))
    monkeypatch.setattr(completion, "process_names", lambda _: ["plant/0", "cvt/0"])
    code, _, err = call("restart", name)
    assert code == 1
    assert hint in err
