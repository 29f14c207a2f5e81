"""The bounds of a file and of a run: what is past them is an error with a place, never a hang or a full memory."""

from __future__ import annotations

from typing import Final

FILE_CHARACTERS: Final = 1 << 19
FILE_LINES: Final = 20_000
LINE_CHARACTERS: Final = 2_000  # of a line without a literal
BLOCK_DEPTH: Final = 32
LITERAL_DEPTH: Final = 32
LITERAL_CHARACTERS: Final = 1 << 17  # one literal
NUMBER_CHARACTERS: Final = 400  # more digits than any 64-bit float prints
TYPE_DEPTH: Final = 32  # structs in structs
TYPE_VALUES: Final = 10_000  # the fields of one value, all of them, fixed arrays counted in full
TOLD_FINDINGS: Final = 100
TOLD_CIRCLES: Final = 20
MEANT_AMONG: Final = 1_000  # names among which a similar one is looked for

LIVE_TASKS: Final = 20_000  # of one order
STEP_MOVES: Final = 200_000  # instructions, and parts of expressions, that one event may set off
STEP_COMMANDS: Final = 50_000  # commands that one event may set off
EXACT_INTEGER: Final = 1 << 53  # PFDL's number is a 64-bit float: beyond this not every integer is one
