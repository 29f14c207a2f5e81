"""What benchmarks make of their figures: rows, ratios, tables, plots, fits. No speed is looked at."""

from __future__ import annotations

import json
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

from tagwerk.runtime.bench import rows
from tagwerk.runtime.bench.tally import Tally, rounds
from tagwerk.runtime.bench.tasks import TAG, Flow

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT))

from benchmarks import environments, report  # noqa: E402
from benchmarks.peers import speak  # noqa: E402
from benchmarks.plots import Bar, bars, lines  # noqa: E402
from benchmarks.profile import shares_of  # noqa: E402
from benchmarks.results import Figure, Point, Results, Scaling, load, path_of, save, summed  # noqa: E402
from benchmarks.scaling import crowd_of, disjoint, fitted  # noqa: E402

MACHINE = {
    "cores": 2, "processor": "any", "memory_bytes": 8e9, "kernel": "6.1", "python": "3.11", "cores_busy": 0.5,
}  # fmt: skip


def test_more_is_better_in_both_ratios() -> None:
    twice_as_fast = rows.rate("r", [200.0, 210.0, 190.0], [100.0])
    half_the_time = rows.delay("d", "ms", [5.0], [10.0, 9.0, 11.0])
    assert twice_as_fast.ratio == half_the_time.ratio == 2.0
    assert (twice_as_fast.n, twice_as_fast.low, twice_as_fast.high) == (3, 190.0, 210.0)


def test_a_high_percentile_is_the_value_and_the_median_stays_the_median() -> None:
    row = rows.delay("d", "ms", [1.0, 2.0, 3.0, 4.0, 100.0], [1.0], 100)
    assert (row.value, row.median, row.low, row.high, row.ratio) == (100.0, 3.0, 1.0, 100.0, 0.01)


def test_a_row_has_the_names_that_programs_look_for() -> None:
    row = rows.rate("r", [1.23456], [1.0]).as_json()
    assert list(row) == ["name", "value", "unit", "floor", "ratio", "n", "median", "low", "high"]
    assert json.loads(json.dumps(row))["value"] == 1.2346


def test_the_machine_is_described() -> None:
    found = rows.machine()
    assert found["cores"] >= 1
    assert 0 <= found["cores_busy"] <= found["cores"]
    assert found["libraries"]["pyzmq"]
    assert str(found["cores"]) in rows.described(found)


def test_the_batches_go_round_over_all_tags() -> None:
    batches = rounds(Flow(30, 5, tags=100))
    assert [batch.tolist()[0] for batch in batches] == [0, 30, 60]
    assert np.unique(np.concatenate(rounds(Flow(10, 5, tags=100)))).tolist() == list(range(100))
    assert rounds(Flow(5, 1, tags=3))[0].tolist() == [0, 1, 2, 0, 1]


def test_a_watcher_leaves_its_first_tenth_out() -> None:
    tally = Tally(100, timed=True)
    tally.add(np.zeros(10, "<i8"))  # since 1970: a delay that would spoil every percentile
    assert not tally.done
    tally.add(np.full(90, 2**62, "<i8"))
    assert tally.done
    seen = tally.seen()
    assert seen.samples == 100
    assert seen.p99_ms < 0


def test_views_divide_the_tags_among_them() -> None:
    assert crowd_of(0, 1_000) == ()
    assert crowd_of(1, 1_000) == ("bench.t000*",)
    globs = crowd_of(10, 1_000)
    names = [TAG.format(number) for number in range(1_000)]
    from tagwerk.protocols.names import compile_globs

    views = [compile_globs([glob]) for glob in globs]
    assert all(sum(view(name) for view in views) == 1 for name in names)
    with pytest.raises(ValueError, match="power of ten"):
        crowd_of(3, 1_000)
    for count in (1, 2, 8):
        watchers = [compile_globs(one) for one in disjoint(count)]
        assert all(sum(watcher(name) for watcher in watchers) == 1 for name in names[:100])


def test_a_fit_finds_what_the_points_were_made_of() -> None:
    points = [
        Point("views", views, 0, 0, 0, 0, 0, 0, 20.0 + 3.0 * frames + 0.002 * samples, frames, samples)
        for views, frames, samples in ((0, 1, 100), (10, 2, 200), (10, 11, 2_000), (100, 1, 150), (100, 101, 9_000))
    ]
    fit = fitted(points, 1_000)
    assert fit is not None
    assert (fit.base_us, fit.frame_us, fit.sample_ns) == pytest.approx((20.0, 3.0, 2.0), rel=1e-3)
    assert fit.r2 > 0.999
    assert abs(fit.view_tag_ps) < 1.0
    assert fitted(points[:3], 1_000) is None


def test_runs_of_the_same_become_one_figure() -> None:
    said = {"work": "w", "what": "me", "unit": "ms", "better": "less"}
    figures = summed([said | {"by": "a", "value": value} for value in (3.0, 1.0, 2.00004)])
    assert figures == [Figure("w", "me", "a", "ms", "less", 3, 2.0, 1.0, 3.0)]


def test_the_document_is_made_of_the_results_alone(tmp_path: Path) -> None:
    figures = [
        Figure("single samples", "tagwerk", "tagwerk", "samples/s", "more", 5, 2_000.0, 1.0, 3_000.0),
        Figure("single samples", "floor: bare", "tagwerk", "samples/s", "more", 5, 4_000.0, 1.0, 5_000.0),
        Figure("single samples", "EPICS <put>", "epics", "samples/s", "more", 5, 10.0, 9.0, 11.0),
    ]
    save(
        tmp_path, "peers", Results(MACHINE, "2026-01-01", 5, {}, [0.5], {"redis": "redis-server is not there"}, figures)
    )
    studies = ("batch", "batch, 100 messages/s", "tags", "watchers of one view", "views, batches of 100")
    points = [Point(name, x, 10.0 * x, 1.0, 2.0, 0.1, 0.9, 0.3, 5.0, 1.0, x) for name in studies for x in (1.0, 10.0)]
    save(tmp_path, "scaling", Scaling(MACHINE, "2026-01-01", 3, points, None))
    report.write(tmp_path)
    text = report.document(tmp_path).read_text()
    assert "redis-server is not there" in text
    assert "| 200 x |" in text
    assert "| EPICS <put> |" in text
    plots = sorted((tmp_path / "docs" / "benchmarks").glob("*.svg"))
    assert {plot.name for plot in plots} == set(_linked(text))
    for plot in plots:
        ET.parse(plot)
    report.write(tmp_path)
    assert report.document(tmp_path).read_text() == text


def _linked(text: str) -> list[str]:
    return [part.partition(")")[0] for part in text.split("](benchmarks/")[1:]]


def test_what_was_saved_is_read_back(tmp_path: Path) -> None:
    results = Results(MACHINE, "2026-01-01", 1, {"asks": 1}, [], {}, [])
    assert load(tmp_path, "peers", Results) is None
    save(tmp_path, "peers", results)
    assert load(tmp_path, "peers", Results) == results
    assert path_of(tmp_path, "peers").read_text().endswith("}\n")


def test_longer_bars_are_of_larger_values() -> None:
    root = ET.fromstring(bars("t", "ms", [Bar("a", 1.0, "floor"), Bar("b", 100.0, "peer"), Bar("none", 0.0, "peer")]))
    widths = [float(rect.attrib["width"]) for rect in root.iter("{http://www.w3.org/2000/svg}rect")]
    assert len(widths) == 2
    assert widths[1] > widths[0] > 0


def test_a_flat_line_can_be_drawn() -> None:
    root = ET.fromstring(lines("t", "x", "y", {"a": [(1.0, 5.0), (10.0, 5.0)], "b": [(1.0, 5.0)]}))
    assert len(list(root.iter("{http://www.w3.org/2000/svg}polyline"))) == 2


def test_every_peer_has_its_file_and_is_pinned() -> None:
    files = {peer.file for peer in environments.ALL.values()}
    assert all((environments.PEERS / file).is_file() for file in files)
    assert all("==" in peer.requirements[0] for peer in environments.ALL.values())
    with_server = [peer for peer in environments.ALL.values() if peer.server]
    assert all(peer.get for peer in with_server)


def test_a_peers_figures_are_found_among_what_its_libraries_print(capsys: pytest.CaptureFixture[str]) -> None:
    speak.tell([speak.row("ask, p50", "me", 3.0, "us")])
    out = "starting\n" + capsys.readouterr().out + "a worker died\n"
    assert environments.rows_in(out) == [
        {"work": "ask, p50", "what": "me", "value": 3.0, "unit": "us", "better": "less"}
    ]
    with pytest.raises(environments.PeerError, match="a worker died"):
        environments.rows_in("a worker died\n")


def test_a_peer_without_its_server_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert "redis-server is not on the PATH" in environments.ALL["redis"].missing()
    assert environments.ALL["pyro"].missing() == ""


def test_a_profile_is_sorted_by_parts_and_waiting_is_left_out() -> None:
    stacks = [
        "loop (pykka/_actor.py:1);get (runtime/mailbox.py:2);ZmqTransport.wait (tagwerk/runtime/transport.py:3) 90",
        "loop (pykka/_actor.py:1);take (tagwerk/actors/cvt/taking.py:5);reduce (numpy/core.py:1) 6",
        "loop (pykka/_actor.py:1);get (runtime/mailbox.py:2);send (tagwerk/runtime/transport.py:4) 3",
        "somewhere else (else.py:1) 1",
        "run (threading.py:1);_worker (concurrent/futures/thread.py:81) 500",
    ]
    assert shares_of(stacks) == {"judge and apply": 60.0, "ZeroMQ: send, receive, look": 30.0, "the rest": 10.0}
    assert shares_of([]) == {}
