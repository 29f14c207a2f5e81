"""Processes of this host: who lives, who is who, and how one is ended for certain."""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
from collections.abc import Collection
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Final

PR_SET_PDEATHSIG: Final = 1  # prctl(2)
NO_PARENT_EXIT: Final = 70  # EX_SOFTWARE: the node died between fork and prctl
_PRCTL: Final = ctypes.CDLL(None, use_errno=True).prctl


@dataclass(frozen=True, slots=True)
class Identity:
    """One process for certain: a pid comes again, a pid with its start time does not."""

    pid: int
    start_ticks: int  # field 22 of /proc/PID/stat: clock ticks since boot

    @staticmethod
    def of(pid: int) -> Identity | None:
        """Give the identity of the process that has `pid` now, None if there is none."""
        fields = _stat_fields(pid)
        return None if fields is None or fields[0] in "ZX" else Identity(pid, int(fields[19]))

    @staticmethod
    def own() -> Identity:
        """Give the identity of this process."""
        fields = _stat_fields(os.getpid())
        assert fields is not None, "a process sees itself in /proc"
        return Identity(os.getpid(), int(fields[19]))

    def is_alive(self) -> bool:
        """Say whether exactly this process still runs (a zombie does not)."""
        return self.pid > 0 and Identity.of(self.pid) == self

    def is_in_disk_wait(self) -> bool:
        """Say whether it hangs in the kernel (state D): it is late, but killing it would not help."""
        fields = _stat_fields(self.pid)
        return fields is not None and fields[0] == "D"


def group_members(leaders: Collection[Identity]) -> list[Identity]:
    """Find who is still in the process groups of these leaders, dead or alive. Costs a look at every process.

    Args:
        leaders: Each led, or leads, the group of its own pid.
    """
    by_pid = {leader.pid: leader for leader in leaders}
    found: list[Identity] = []
    for entry in os.scandir("/proc"):
        fields = _stat_fields(int(entry.name)) if entry.name.isdigit() else None
        leader = by_pid.get(int(fields[2])) if fields is not None and fields[0] not in "ZX" else None
        if fields is None or leader is None:
            continue
        # A number stays taken while its group has members: if it is another's by now, so are they.
        if Identity.of(leader.pid) in (leader, None):
            found.append(Identity(int(entry.name), int(fields[19])))
    return found


def _stat_fields(pid: int) -> list[str] | None:
    """Give the fields of /proc/PID/stat from the state on; the name before them may hold blanks and brackets."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text.rpartition(")")[2].split()


def boot_hash() -> int:
    """Give 64 bits that differ from boot to boot: pids and monotonic times mean nothing across it."""
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_bytes().strip()
    return int.from_bytes(blake2b(boot_id, digest_size=8).digest(), "little")


def die_with_parent(parent_pid: int) -> None:
    """Have the kernel SIGKILL this process when the *thread* that forked it ends; exit if it has ended already.

    Args:
        parent_pid: The pid of the process that forked, read before the fork.
    """
    if _PRCTL(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    # The signal is not sent if the parent was gone before it was asked for.
    if os.getppid() != parent_pid:
        os._exit(NO_PARENT_EXIT)


def end(process: Identity, *, term_s: float, kill_s: float = 5.0) -> bool:
    """End a process that is not our child: SIGTERM, then SIGKILL. Blocks until it is gone or time is up.

    Args:
        process: Whom; a process that took the same pid later is left alone.
        term_s: How long it may take to stop by itself; 0 kills at once.
        kill_s: How long the kernel may take to end it.

    Returns:
        Whether it is gone.
    """
    try:
        pidfd = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return True
    try:
        # The descriptor is pinned first, so that the comparison speaks of the process that gets the signal.
        if not process.is_alive():
            return True
        with contextlib.suppress(ProcessLookupError):
            if term_s > 0:
                signal.pidfd_send_signal(pidfd, signal.SIGTERM)
                if _ended_within(pidfd, term_s):
                    return True
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        return _ended_within(pidfd, kill_s)
    finally:
        os.close(pidfd)


def _ended_within(pidfd: int, seconds: float) -> bool:
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    return bool(poller.poll(seconds * 1000))


def kill_group(pgid: int) -> None:
    """SIGKILL a process group whose leader is our child and not yet reaped, so that its number cannot be another's."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pgid, signal.SIGKILL)
