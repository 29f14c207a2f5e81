"""The swinging door: which samples a line through the kept ones stands for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(slots=True)
class Door:
    """Where the line from a tag's last kept sample to its newest may lead.

    Args:
        deviation: How far from the line a sample may lie, in the tag's unit.
        interval_ns: Longest time between two kept samples, as far as some come; 0: none.
        anchor_time: Time of the last kept sample, ns since 1970.
        anchor: Its value.
        low: The least slope of a line from there that passes all samples since, units a nanosecond.
        high: The greatest one.
        holds: The newest sample is held back. A line from the anchor to it passes all between.
    """

    deviation: float
    interval_ns: int
    anchor_time: int
    anchor: float
    low: float
    high: float
    holds: bool

    def pass_through(
        self, times: Sequence[int], values: Sequence[float], must: Sequence[bool], *, known: bool
    ) -> list[int]:
        """Take samples of the tag, and give the places of those that are kept.

        This is a loop over samples, each a third of a microsecond: a slope rests on all samples before it. It goes over
        what of one page of a journal is of this tag and has passed the deadband.

        Args:
            times: ns, (n,).
            values: (n,); NaN where there is no number.
            must: Which are kept whatever their value, (n,).
            known: The first one is not new: it is what is held back or, if nothing is, the anchor.
        """
        kept: list[int] = []
        deviation, interval_ns = self.deviation, self.interval_ns
        anchor_time, anchor, low, high = self.anchor_time, self.anchor, self.low, self.high
        held, held_time, held_value = -1, 0, 0.0
        for place, (time, value, forced) in enumerate(zip(times, values, must, strict=True)):
            if known:
                known = False
                if self.holds and not forced:
                    held, held_time, held_value = place, time, value
                    continue
                if not self.holds:
                    continue
            passed_ns = time - anchor_time
            rise = value - anchor
            if held >= 0 and not (
                time > held_time and low <= rise / passed_ns <= high and not (interval_ns and passed_ns > interval_ns)
            ):  # no line leads to this one: the one before it is kept, and lines begin there
                kept.append(held)
                anchor_time, anchor, low, high, held = held_time, held_value, -math.inf, math.inf, -1
                passed_ns = time - anchor_time
                rise = value - anchor
            if forced or passed_ns <= 0 or (interval_ns and passed_ns >= interval_ns):
                kept.append(place)
                anchor_time, anchor, low, high, held = time, value, -math.inf, math.inf, -1
                continue
            held, held_time, held_value = place, time, value
            if (least := (rise - deviation) / passed_ns) > low:  # calls of max and min would double the time
                low = least
            if (most := (rise + deviation) / passed_ns) < high:
                high = most
        self.anchor_time, self.anchor, self.low, self.high = anchor_time, anchor, low, high
        self.holds = held >= 0
        return kept
