"""What can be asked of a node, and when each request is answered: at its outcome, without anybody waiting inside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, final

from tagwerk.runtime.children import Children
from tagwerk.runtime.states import PeerState
from tagwerk.runtime.supervised import Supervised


@dataclass(frozen=True, slots=True)
class Reply:
    """The outcome of a request."""

    ok: bool
    message: str
    rows: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Waiting:
    """A request whose outcome has still to come."""

    child: Supervised
    outcome: Callable[[], Reply | None]

    def so_far(self) -> str:
        """Say how far it is, for when time is up."""
        return f"{_is(self.child)} so far"


@final
class Verbs:
    """The requests.

    Args:
        children: The node's processes.
        shut_down: Begins the stop of the node itself.
    """

    def __init__(self, children: Children, shut_down: Callable[[], None]) -> None:
        self._children = children
        self._shut_down = shut_down
        self._with_name = {
            "start": self._start,
            "stop": self._stop,
            "restart": self._restart,
            "revive": self._revive,
        }

    def do(self, verb: str, name: str, now_ns: int) -> Reply | Waiting:
        """Do what is asked.

        Args:
            verb: `start stop restart revive status down`.
            name: The actor it is about.
            now_ns: Monotonic time.
        """
        if verb == "status":
            return Reply(True, "", [_row(child) for child in self._children])
        if verb == "down":
            self._shut_down()
            return Reply(True, "the node stops")
        action = self._with_name.get(verb)
        child = self._children.get(name)
        if action is None:
            return Reply(False, f"unknown verb {verb!r}; expected {' '.join(self._with_name)} status down")
        if child is None:
            return Reply(False, f"this node has no actor {name!r}")
        if self._children.closing:
            return Reply(False, "the node is stopping")
        return action(child, now_ns)

    def _start(self, child: Supervised, now_ns: int) -> Reply | Waiting:
        if child.state is PeerState.FATAL:
            return Reply(False, f"{_is(child)}: revive it")
        if child.state in (PeerState.STARTING, PeerState.RUNNING):
            return Reply(True, _is(child))
        child.start_at_once(now_ns, forgive=False)
        return _until_running(child)

    def _stop(self, child: Supervised, now_ns: int) -> Reply | Waiting:
        child.wanted = False
        child.stop(now_ns)
        return Waiting(child, lambda: None if child.is_alive else Reply(True, _is(child)))

    def _restart(self, child: Supervised, now_ns: int) -> Reply | Waiting:
        if child.is_alive:
            child.stop(now_ns)  # still wanted: so it is started as soon as it has stopped
        child.start_at_once(now_ns, forgive=True)
        return _until_running(child)

    def _revive(self, child: Supervised, now_ns: int) -> Reply | Waiting:
        if child.state not in (PeerState.FATAL, PeerState.BACKOFF):
            return Reply(False, f"{_is(child)}: only who is FATAL can be revived")
        child.start_at_once(now_ns, forgive=True)
        return _until_running(child)


def _until_running(child: Supervised) -> Waiting:
    forks = child.forks

    def outcome() -> Reply | None:
        if child.forks == forks:
            return None if child.wanted else Reply(False, f"{_is(child)}: somebody else stopped it")
        if child.state is PeerState.STARTING:
            return None
        return Reply(child.state is PeerState.RUNNING, _is(child))

    return Waiting(child, outcome)


def _is(child: Supervised) -> str:
    text = f"{child.spec.name} is {child.state}"
    failed = child.state in (PeerState.BACKOFF, PeerState.FATAL, PeerState.HUNG)
    return f"{text} ({child.reason})" if failed and child.reason else text


def _row(child: Supervised) -> dict[str, Any]:
    return {
        "name": child.spec.name,
        "state": str(child.state),
        "pid": child.process.pid if child.process else 0,
        "restarts": child.restarts,
        "reason": child.reason,
    }
