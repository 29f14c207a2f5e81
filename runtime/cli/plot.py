"""A plot of history in the terminal."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any, Final

from tagwerk.protocols.errors import Refused, RefusedCode
from tagwerk.protocols.quality import is_bad
from tagwerk.runtime.cli import output, times

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tagwerk.protocols.samples import TagValue
    from tagwerk.protocols.tags import TagDef

PLAIN_SIZE: Final = (100, 25)  # columns and rows when nobody looks at a terminal
TICKS: Final = 5
COLORS: Final = ("blue", "green", "red", "magenta", "cyan", "orange")


def runs(rows: Iterable[TagValue]) -> list[list[tuple[int, float]]]:
    """Give the stretches of (time, value) between which there is no good value."""
    found: list[list[tuple[int, float]]] = []
    for drawn, part in itertools.groupby(rows, key=_is_drawn):
        if drawn:
            found.append([(row.time_ns, float(row.value or 0)) for row in part])
    return found


def _is_drawn(row: TagValue) -> bool:
    return isinstance(row.value, (int, float)) and math.isfinite(row.value) and not is_bad(row.quality)


def draw(tags: Sequence[TagDef], rows: list[TagValue], utc: bool) -> None:
    """Draw samples, one line a tag, with gaps where there was no value.

    Raises:
        Refused: A tag has texts as values, or there is nothing to draw.
    """
    for tag in tags:
        if tag.type == "str":
            raise Refused(RefusedCode.WRONG_TYPE, f"{tag.name} holds texts, which cannot be plotted", tag.name)
    drawn = {tag: runs(row for row in rows if row.tag == tag.name) for tag in tags}
    stamps = [at_ns for stretches in drawn.values() for stretch in stretches for at_ns, _ in stretch]
    if not stamps:
        raise Refused(RefusedCode.BAD_VALUE, "nothing to plot: there is no good value in this span", tags[0].name)
    output.line(_picture(drawn, min(stamps), max(stamps), utc))


def _picture(drawn: dict[TagDef, list[list[tuple[int, float]]]], first_ns: int, last_ns: int, utc: bool) -> str:
    import plotext  # a quarter of a second, for plots only

    terminal = output.is_terminal()
    figure: Any = plotext.figure
    figure.clear()
    plotext.terminal.limit(terminal, terminal)
    if not terminal:
        figure.plot_size(*PLAIN_SIZE)
    figure.theme("colorless")  # the terminal's own colours behind it; those of the lines are given below
    for color, (tag, stretches) in zip(itertools.cycle(COLORS), drawn.items(), strict=False):
        label: str | None = f"{tag.name} [{tag.unit}]" if tag.unit else tag.name
        marker = plotext.marker("braille", color) if terminal else "braille"
        for stretch in stretches:
            stamps = [(at_ns - first_ns) / times.NS_PER_S for at_ns, _ in stretch]
            signal = figure.signal(stamps, [value for _, value in stretch], marker=marker)
            figure.draw(signal.lines().label(label))
            label = None  # once in the legend
    length_s = (last_ns - first_ns) / times.NS_PER_S
    places = [length_s * tick / (TICKS - 1) for tick in range(TICKS)] if length_s else [0.0]
    labels = [times.shown(first_ns + int(place * times.NS_PER_S), utc)[5:19] for place in places]
    figure.ruler("x", "lower").ticks(places, labels)
    return str(figure.build().string(colorless=not terminal))
