"""How a plant is, read from its gauge pages: it asks nobody, so it works when everything hangs."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Final

import psutil

from tagwerk.runtime.clock import NS_PER_S, Clock, SystemClock
from tagwerk.runtime.home import Home
from tagwerk.runtime.page import Page, PeerState, SlotView
from tagwerk.runtime.process import Identity
from tagwerk.runtime.states import ALIVE

CPU_SAMPLE_S: Final = 0.1
NO_NODE: Final = "its node is gone"
NO_PROCESS: Final = "its process is gone, and the node has not said so"
NO_BEAT: Final = "no beat for {:.1f} s, and its node does not say why"


@dataclass(frozen=True, slots=True)
class _Use:
    rss_bytes: int
    cpu_pct: float


def status_rows(home: Home, *, node: str = "main", sample_s: float = CPU_SAMPLE_S) -> list[dict[str, Any]]:
    """Give the rows of `tagwerk status --json`: the node, its actors and its external programs.

    Whatever is in doubt is UNKNOWN: the node is gone, the page is of another boot, or a process that should be there is
    not.

    Args:
        home: The plant's home.
        node: Which node.
        sample_s: How long to measure CPU time; the call takes so long.

    Raises:
        Unavailable: No node was ever up, or it was stopped cleanly.
    """
    page = Page.open(home.file(f"node/{node}", "page"))
    try:
        node_alive = page.node_is_alive()
        views = [page.slot(name).read() for name in page.names()]
        use = _use([Identity(view.pid, view.start_ticks) for view in views if view.node_state in ALIVE], sample_s)
        return rows_of(views, f"node/{node}", node_alive, use, SystemClock())
    finally:
        page.close()


def rows_of(
    views: list[SlotView], node: str, node_alive: bool, use: dict[int, _Use], clock: Clock
) -> list[dict[str, Any]]:
    """Make the rows from what was read.

    Args:
        views: The slots of a page.
        node: The node's name.
        node_alive: Whether the process that owns the page runs.
        use: Memory and CPU by pid, of those processes that run.
        clock: The time.
    """
    now_ns = clock.mono_ns()
    node_fresh = any(view.name == node and now_ns - view.beat_mono_ns <= view.hang_after_ns for view in views)
    return [_row(view, node, node_alive, node_fresh, use.get(view.pid), now_ns) for view in views]


def _row(
    view: SlotView, node: str, node_alive: bool, node_fresh: bool, use: _Use | None, now_ns: int
) -> dict[str, Any]:
    doubt = _doubt(view, node_alive, node_fresh, use, now_ns)
    beats = view.hang_after_ns > 0 and view.actor_pid == view.pid != 0
    return {
        "name": view.name,
        "kind": view.name.partition("/")[0],
        "node": node,
        "state": str(PeerState.UNKNOWN if doubt else view.state),
        "pid": view.pid or None,
        "incarnation": view.incarnation,
        "restarts": view.restarts,
        "uptime_s": _age_s(view.started_mono_ns, now_ns) if use else None,
        "rss_bytes": use.rss_bytes if use else None,
        "cpu_pct": use.cpu_pct if use else None,
        "heartbeat_age_s": _age_s(view.beat_mono_ns, now_ns) if beats else None,
        "inbox_depth": view.inbox_depth,
        "inbox_oldest_s": _age_s(view.inbox_oldest_mono_ns, now_ns),
        "handled": view.handled,
        "deadletters": view.deadletters,
        "reason": doubt or (view.busy_reason if view.busy_until_mono_ns > now_ns else view.reason),
    }


def _doubt(view: SlotView, node_alive: bool, node_fresh: bool, use: _Use | None, now_ns: int) -> str:
    """Give why the state in the slot cannot be believed, "" if it can."""
    if not node_alive:
        return NO_NODE
    if view.node_state not in ALIVE:
        return ""
    if use is None:
        return NO_PROCESS
    silent_ns = now_ns - max(view.beat_mono_ns, view.busy_until_mono_ns)
    if not node_fresh and 0 < view.hang_after_ns < silent_ns:
        return NO_BEAT.format(silent_ns / NS_PER_S)
    return ""


def _age_s(since_mono_ns: int, now_ns: int) -> float | None:
    return round(max(now_ns - since_mono_ns, 0) / NS_PER_S, 3) if since_mono_ns else None


def _use(processes: list[Identity], sample_s: float) -> dict[int, _Use]:
    """Measure memory and CPU of exactly these processes; who is gone is left out."""
    before = {process: _cpu_s(process) for process in processes}
    began_s = time.monotonic()
    time.sleep(sample_s)
    lasted_s = time.monotonic() - began_s
    use: dict[int, _Use] = {}
    for process, cpu_before_s in before.items():
        cpu_after_s = _cpu_s(process)
        if cpu_before_s is None or cpu_after_s is None:
            continue
        try:
            rss_bytes = psutil.Process(process.pid).memory_info().rss
        except psutil.NoSuchProcess:
            continue
        use[process.pid] = _Use(rss_bytes, round(100 * (cpu_after_s - cpu_before_s) / lasted_s, 1))
    return use


def _cpu_s(process: Identity) -> float | None:
    if not process.is_alive():
        return None
    try:
        times = psutil.Process(process.pid).cpu_times()
    except psutil.NoSuchProcess:
        return None
    return float(times.user + times.system)
