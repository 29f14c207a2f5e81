"""Levels that actors show in the counters of their slots: system alarms are made of them, whoever is down."""

from __future__ import annotations

from typing import Final

LINK_COUNTER: Final = 6
"""Of an OPC UA link: one of the three below."""
LINK_UNKNOWN: Final = 0
"""It has just started and has not tried for long enough."""
LINK_UP: Final = 1
LINK_DOWN: Final = 2

JOURNAL_COUNTER: Final = 0
"""Of a shard: how much of the journal's cap is used, in per mille."""
JOURNAL_FULL: Final = 1_000
"""The shard is live only."""
JOURNAL_WARN: Final = 800
JOURNAL_ROOM: Final = 750
"""The alarm is cleared below this, so that it does not flap."""

DISK_COUNTER: Final = 0
"""Of the historian: one of the four below."""
DISK_UNKNOWN: Final = 0
"""It has just started and has not looked."""
DISK_ROOM: Final = 1
DISK_WARN: Final = 2
"""Above `disk_warn_pct`."""
DISK_STOP: Final = 3
"""Above `disk_stop_pct`: nothing more is taken."""
