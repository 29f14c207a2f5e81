"""What `tagwerk up` shows while a plant starts and runs, and how it ends."""

from __future__ import annotations

import signal
import time
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final, final

import psutil

from tagwerk.protocols.errors import Unavailable
from tagwerk.runtime.cli import failure, output, supervision, times
from tagwerk.runtime.cli.plant import STATUS_HEAD, STATUS_LESS, STATUS_RIGHT, is_up, status_cells
from tagwerk.runtime.home import file_form
from tagwerk.runtime.process import Identity
from tagwerk.runtime.status import status_rows

if TYPE_CHECKING:
    from tagwerk.runtime.cli.session import Session

TAIL_LINES: Final = 8
NOT_YET: Final = frozenset({"STOPPED", "UNKNOWN"})
_POLL_S: Final = 0.05
_LIVE_S: Final = 1.0

Rows = list[dict[str, Any]]


@final
class Watcher:
    """Follows a plant that was just started.

    Args:
        supervisord: What was started.
        session: The global options.
        name: The plant's name.
        signalled: Gives the signal that asks this process to end, 0 for none.
    """

    def __init__(
        self, supervisord: supervision.Supervisord, session: Session, name: str, signalled: Callable[[], int]
    ) -> None:
        self._supervisord = supervisord
        self._home = supervisord.home
        self._session = session
        self._name = name
        self._signalled = signalled
        self._began_s = time.monotonic()
        self._states: dict[str, str] = {}
        self._was_ready = False

    # --- detached ----------------------------------------------------------------------------------------------------

    def until_ready(self, timeout_s: float) -> int:
        """Wait until all actors run, then leave them alone; give the exit code."""
        deadline = self._began_s + timeout_s
        rows: Rows = []
        while time.monotonic() < deadline:
            if self._signalled():
                self._stop()
                return self._end_code()
            if self._lost():
                return failure.NOT_DONE
            rows = self._rows()
            if _ready(rows):
                self._say_ready(rows)
                return failure.DONE
            time.sleep(_POLL_S)
        output.note(
            f"error: {self._name} is not ready after {timeout_s:g} s; it goes on trying, `tagwerk down` stops it"
        )
        for row in rows:
            if row["state"] != "RUNNING":
                self._tell_trouble(row)
        if not rows:
            self._tail("node/main")
        return failure.NOT_DONE

    # --- in the foreground -------------------------------------------------------------------------------------------

    def until_stopped(self) -> int:
        """Show how the plant is, until a signal; then stop it. Give the exit code."""
        try:
            with ExitStack() as stack:
                show = self._live(stack) if output.is_terminal() and not self._session.json else self._show_changes
                while not self._signalled():
                    if self._lost():
                        return failure.REFUSED
                    rows = self._rows(_POLL_S if self._was_ready else 0.0)
                    show(rows)
                    if not self._was_ready and _ready(rows):
                        self._was_ready = True
                        self._say_ready(rows)
                    self._nap(_LIVE_S if self._was_ready else _POLL_S)
        finally:
            # Also if the terminal is gone, and nothing can be shown any more.
            if self._supervisord.ended is None:
                self._stop()
        return self._end_code()

    def _live(self, stack: ExitStack) -> Callable[[Rows], None]:
        from rich.live import Live

        live = stack.enter_context(Live(auto_refresh=False, transient=True))

        def show(rows: Rows) -> None:
            cells = [status_cells(row) for row in rows]
            head, fitting = output.narrowed(STATUS_HEAD, cells, live.console.width, STATUS_LESS)
            live.update(output.rich_table(head, fitting, right=STATUS_RIGHT), refresh=True)

        return show

    def _show_changes(self, rows: Rows) -> None:
        for row in rows:
            # What was not started yet is no change; a node says who it is a moment after it has made its page.
            if self._states.get(row["name"], row["state"] if row["state"] in NOT_YET else "") == row["state"]:
                continue
            self._states[row["name"]] = row["state"]
            at_ns = time.time_ns()
            if self._session.json:
                keys = ("name", "state", "pid", "reason")
                output.json_line({"time": times.rfc3339(at_ns), **{key: row[key] for key in keys}})
            else:
                reason = f"  {row['reason']}" if row["reason"] else ""
                output.line(f"{times.shown(at_ns, self._session.utc)}  {row['name']:<16} {row['state']}{reason}")
            output.flush()

    def _nap(self, seconds: float) -> None:
        until_s = time.monotonic() + seconds
        while not self._signalled() and time.monotonic() < until_s:
            time.sleep(min(_POLL_S, seconds))

    # --- both --------------------------------------------------------------------------------------------------------

    def _rows(self, sample_s: float = 0.0) -> Rows:
        try:
            rows = status_rows(self._home, sample_s=sample_s)
            node_pid = next((row["pid"] for row in rows if row["kind"] == "node"), None)
            # Until the new node has made its page, that of an older one may still be there.
            above = psutil.Process(node_pid).parents() if node_pid is not None else []
            ours = self._supervisord.process.pid in [process.pid for process in above]
        except (Unavailable, psutil.Error):
            return []
        return rows if ours else []

    def _say_ready(self, rows: Rows) -> None:
        took_s = time.monotonic() - self._began_s
        count = sum(row["kind"] != "node" for row in rows)
        if self._session.json:
            output.json_line({"ready": True, "plant": self._name, "actors": count, "seconds": round(took_s, 3)})
        else:
            output.line(f"{self._name} is up: {count} actors run after {took_s:.1f} s (home {self._home.root})")
        output.flush()

    def _lost(self) -> bool:
        """Tell whether there is nothing left to wait for, and say why."""
        code = self._supervisord.ended
        if code is not None:
            how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
            output.note(f"error: supervisord ended unexpectedly {how}")
            if said := self._supervisord.complaints():
                output.note(said)
            if supervision.find(self._home) is not None:
                output.note(
                    "the plant runs on without it: `tagwerk up` puts a new one in charge, `tagwerk down` ends it"
                )
            else:
                supervision.clean(self._home)
            return True
        if not self._was_ready and not self._rows() and self._supervisord.node_gave_up():
            output.note(f"error: the node of {self._name} has ended")
            self._tail("node/main")
            self._stop()
            return True
        return False

    def _stop(self) -> None:
        own = Identity.of(self._supervisord.process.pid)
        running = supervision.find(self._home) or supervision.Running(None, own)
        supervision.stop(self._home, running)
        self._supervisord.process.wait()
        if self._session.json:
            output.json_line({"stopped": True})
        else:
            output.line("stopped")

    def _end_code(self) -> int:
        return failure.INTERRUPTED if self._signalled() == signal.SIGINT else failure.DONE

    def _tell_trouble(self, row: dict[str, Any]) -> None:
        output.note(f"{row['name']} is {row['state']}: {row['reason'] or 'it does not say why'}")
        self._tail(row["name"])

    def _tail(self, name: str) -> None:
        files = [self._home.log / f"{file_form(name)}.log"]
        if name.startswith("node/"):
            files.append(self._supervisord.node_log)
        for file in files:
            if file.is_file() and file.stat().st_size:
                with file.open(encoding="utf-8", errors="replace") as lines:
                    last = deque(lines, TAIL_LINES)
                output.note(f"--- {file}, last lines ---\n" + "".join(last).rstrip())


def _ready(rows: Rows) -> bool:
    return is_up(rows) and all(row["state"] == "RUNNING" for row in rows)
