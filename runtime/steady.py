"""The time at which things are received: UTC that neither jumps nor goes back, whatever is done to the wall clock.

It goes with the monotonic clock and is led towards the wall clock slowly. So a delay that is counted in it lasts what
it should although somebody sets the host's clock by an hour, and over a restart of its owner as well.
"""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING, Final, final
from zlib import crc32

from tagwerk.runtime.clock import NS_PER_S, Clock

if TYPE_CHECKING:
    from pathlib import Path

FOLLOW: Final = 20
"""One part in so many: what is led after the wall clock, and so the error of a delay meanwhile, is 5 %."""
UNSET_NS: Final = 24 * 3_600 * NS_PER_S
"""A wall clock that is so far ahead was not set before (no battery, a first boot): it is followed at once."""
RESTART_NS: Final = 1_800 * NS_PER_S
"""Who was away for longer begins with the wall clock: no delay is waited for over so long a stop."""

_KEPT: Final = struct.Struct("<QqqI")


@final
class SteadyTime:
    """A clock of its own for one actor.

    Args:
        clock: Wall and monotonic time.
        file: Where it is kept over a restart.
        boot: Which boot this is, see `process.boot_hash`.
        not_before_ns: The time of the last thing that was received.
    """

    def __init__(self, clock: Clock, file: Path, boot: int, not_before_ns: int) -> None:
        self._clock = clock
        self._boot = boot
        self._file = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._mono_ns = clock.mono_ns()
        began_ns = clock.now_ns() if (kept_ns := self._kept()) is None else kept_ns
        self._time_ns = max(began_ns, not_before_ns)

    def now_ns(self) -> int:
        """Give the time, UTC, ns since 1970; it never goes back."""
        mono_ns = self._clock.mono_ns()
        passed_ns, self._mono_ns = mono_ns - self._mono_ns, mono_ns
        self._time_ns += passed_ns
        behind_ns = self._clock.now_ns() - self._time_ns
        if behind_ns > UNSET_NS:
            self._time_ns += behind_ns
        elif behind_ns:
            limit_ns = passed_ns // FOLLOW
            self._time_ns += max(-limit_ns, min(limit_ns, behind_ns))
        return self._time_ns

    def keep(self) -> None:
        """Write down how it goes, once a second or so. A power cut may take it: another boot begins anew."""
        time_ns = self.now_ns()
        body = struct.pack("<Qqq", self._boot, self._mono_ns, time_ns)
        os.pwrite(self._file, body + struct.pack("<I", crc32(body)), 0)

    def close(self) -> None:
        """Keep it for the next start."""
        self.keep()
        os.close(self._file)

    def _kept(self) -> int | None:
        raw = os.pread(self._file, _KEPT.size, 0)
        if len(raw) < _KEPT.size or crc32(raw[:-4]) != _KEPT.unpack(raw)[3]:
            return None
        boot, mono_ns, time_ns, _ = _KEPT.unpack(raw)
        passed_ns: int = self._mono_ns - mono_ns
        return time_ns + passed_ns if boot == self._boot and 0 <= passed_ns < RESTART_NS else None
