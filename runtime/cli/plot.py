"""A plot of history in the terminal. A value holds until the next one."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Final

from tagwerk.runtime.cli import output, times

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tagwerk.runtime.cli.trends import Trend

PLAIN_SIZE: Final = (100, 25)  # columns and rows when nobody looks at a terminal
TICKS: Final = 5
COLORS: Final = ("blue", "green", "red", "magenta", "cyan", "orange")


def draw(trends: Sequence[Trend], start_ns: int, end_ns: int, utc: bool) -> None:
    """Draw courses, one line a tag, with gaps where there was no value.

    Args:
        trends: At least one of them has a value.
        start_ns: The left end, ns since 1970.
        end_ns: The right end.
        utc: Times in UTC, not in local time.
    """
    import plotext  # a quarter of a second, for plots only

    terminal = output.is_terminal()
    figure: Any = plotext.figure
    figure.clear()
    plotext.terminal.limit(terminal, terminal)
    if not terminal:
        figure.plot_size(*PLAIN_SIZE)
    figure.theme("colorless")  # the terminal's own colours behind it; those of the lines are given below
    for color, one in zip(itertools.cycle(COLORS), trends, strict=False):
        label: str | None = f"{one.tag.name} [{one.tag.unit}]" if one.tag.unit else one.tag.name
        marker = plotext.marker("braille", color) if terminal else "braille"
        for stretch in one.stretches:
            corners, values = stretch.steps()
            signal = figure.signal(((corners - start_ns) / times.NS_PER_S).tolist(), values.tolist(), marker=marker)
            figure.draw(signal.lines().label(label))
            label = None  # once in the legend
    length_s = (end_ns - start_ns) / times.NS_PER_S
    places = [length_s * tick / (TICKS - 1) for tick in range(TICKS)] if length_s else [0.0]
    labels = [times.shown(start_ns + int(place * times.NS_PER_S), utc)[5:19] for place in places]
    figure.ruler("x", "lower").ticks(places, labels)
    output.line(str(figure.build().string(colorless=not terminal)))
