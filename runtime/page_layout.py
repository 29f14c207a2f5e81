"""Where each value stands in a gauge page. All are 8-byte words, little endian; texts fill whole words.

A slot has two writers, so it has two halves: the node's and the actor's. Each half stands between two sequence words:
the writer counts the first up, writes, and copies it to the last. A reader that finds both equal, having read the last
word first, has read one writing.
"""

from __future__ import annotations

from typing import Final

WORD: Final = 8
MAGIC: Final = int.from_bytes(b"TAGWERKP", "little")
VERSION: Final = 1
CAPACITY: Final = 256

# The header.
HEADER_WORDS: Final = 64
H_MAGIC: Final = 0
H_VERSION: Final = 1
H_BOOT: Final = 2  # hash of the boot id
H_NODE_PID: Final = 3
H_NODE_START: Final = 4
H_CAPACITY: Final = 5
H_COUNT: Final = 6  # slots in use; written after the new slot's name
H_SUPERSEDED: Final = 7  # a successor takes over: nothing in here is true any more

# A slot.
SLOT_WORDS: Final = 128
NAME: Final = 0
NAME_BYTES: Final = 64

# The node's half.
N_FIRST: Final = 8
N_STATE: Final = 9
N_PID: Final = 10
N_START_TICKS: Final = 11
N_SINCE: Final = 12  # monotonic ns of the last change of state
N_RESTARTS: Final = 13
N_FATAL_COUNT: Final = 14
N_FATAL: Final = 15  # 1 from FATAL until a trial has run for a whole period
N_RETRY_AT: Final = 16  # monotonic ns of the next try in BACKOFF and FATAL, 0: none
N_HANG_AFTER: Final = 17  # ns without a beat that make a hung actor, 0: it does not beat
N_REASON: Final = 18
N_LAST: Final = 33

# The actor's half.
A_FIRST: Final = 40
A_STATE: Final = 41
A_PID: Final = 42
A_INCARNATION: Final = 43
A_STARTED: Final = 44  # monotonic ns
A_BEAT: Final = 45  # monotonic ns
A_BUSY_UNTIL: Final = 46  # monotonic ns, 0: not busy
A_BUSY_REASON: Final = 47
A_INBOX_DEPTH: Final = 53
A_INBOX_OLDEST: Final = 54  # monotonic ns of the oldest message, 0: none
A_HANDLED: Final = 55
A_DEADLETTERS: Final = 56
A_HANDLER_TOTAL: Final = 57  # ns
A_HANDLER_MAX: Final = 58  # ns
A_COUNTERS: Final = 59
COUNTERS: Final = 8
A_LAST_WORDS: Final = 67
A_LAST: Final = 82

REASON_BYTES: Final = 120
BUSY_REASON_BYTES: Final = 48


def page_bytes(capacity: int) -> int:
    """Give the size of a page with room for `capacity` slots."""
    return (HEADER_WORDS + capacity * SLOT_WORDS) * WORD


def slot_word(index: int) -> int:
    """Give the first word of a slot."""
    return HEADER_WORDS + index * SLOT_WORDS


def encoded(text: str, limit_bytes: int) -> bytes:
    """Give `text` in exactly `limit_bytes` bytes of UTF-8, cut or filled with zeros."""
    return text.encode()[:limit_bytes].ljust(limit_bytes, b"\0")


def decoded(raw: bytes) -> str:
    """Read what `encoded` wrote; a character that was cut in the middle is left out."""
    return raw.rstrip(b"\0").decode(errors="ignore")
