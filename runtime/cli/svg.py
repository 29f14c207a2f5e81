"""A trend as SVG: each value holds until the next; gaps, Bad and Uncertain stretches; a panel for each unit."""

from __future__ import annotations

import math
import time
from html import escape
from typing import TYPE_CHECKING, Final

import numpy as np

from tagwerk.runtime.cli import times
from tagwerk.runtime.cli.values import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from tagwerk.runtime.cli.trends import Span, Stretch, Trend

WIDTH: Final = 1_000
LEFT: Final = 76
RIGHT: Final = 36
HEIGHT: Final = 220
LINE: Final = 18
AXIS: Final = 40
COLORS: Final = 6

POINTS: Final = 4 * (WIDTH - LEFT - RIGHT)
"""Samples asked for a tag: a fourth of them is the number of stretches whose extremes are there, one a pixel."""

_TIME_STEPS_S: Final = (
    0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600,
    7200, 10800, 21600, 43200, 86400, 2 * 86400, 7 * 86400, 14 * 86400, 30 * 86400, 91 * 86400, 182 * 86400,
    365 * 86400,
)  # fmt: skip
_TICKS: Final = 8

STYLE: Final = """<style>
svg { background: #fff }
text { font-family: system-ui, sans-serif; font-size: 12px; fill: #41484f }
.grid { stroke: #8b949e; stroke-width: 1; opacity: .25 } .frame { stroke: #8b949e; fill: none }
.line { stroke-width: 1.3; fill: none; stroke-linejoin: round }
.c0 { stroke: #2f7ed8 } .c1 { stroke: #d9822b } .c2 { stroke: #3d9a5f } .c3 { stroke: #a05fc4 } .c4 { stroke: #c23b4e }
.c5 { stroke: #4aa3a2 } .bad { fill: #c23b4e; opacity: .18 } .uncertain { fill: #d9a42b; opacity: .18 }
@media (prefers-color-scheme: dark) { svg { background: #14181d } text { fill: #c3cad2 } }
</style>"""


def picture(trends: Sequence[Trend], start_ns: int, end_ns: int, utc: bool) -> str:
    """Draw courses.

    Args:
        trends: At least one of them has a value.
        start_ns: The left end, ns since 1970.
        end_ns: The right end.
        utc: Times in UTC, not in local time.

    Returns:
        The text of an SVG file.
    """
    scale = _Scale(start_ns, max(end_ns, start_ns + 1))
    panels: dict[str, list[tuple[int, Trend]]] = {}
    for number, one in enumerate(trends):
        panels.setdefault("bool" if one.tag.type == "bool" else one.tag.unit, []).append((number, one))
    parts: list[str] = []
    top = LINE
    for members in panels.values():
        top += LINE * len(members)
        parts += _panel(members, top, scale)
        top += HEIGHT + LINE
    parts += _time_axis(top - LINE, scale, utc)
    names = ", ".join(one.tag.name for one in trends)
    span = f"{times.shown(start_ns, utc)} to {times.shown(end_ns, utc)}"
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top + AXIS}" width="{WIDTH}"'
        f' height="{top + AXIS}" role="img"><title>{_text(names)}</title><desc>{_text(span)}</desc>'
    )
    return "\n".join([head, STYLE, *parts, "</svg>", ""])


class _Scale:
    """Times to places from left to right."""

    def __init__(self, start_ns: int, end_ns: int) -> None:
        self.start_ns = start_ns
        self.end_ns = end_ns

    def x(self, at_ns: NDArray[np.int64] | int) -> NDArray[np.float64]:
        """Places in pixels."""
        share = (np.asarray(at_ns) - self.start_ns) / (self.end_ns - self.start_ns)
        return LEFT + np.clip(share, 0.0, 1.0) * (WIDTH - LEFT - RIGHT)


def _panel(members: Sequence[tuple[int, Trend]], top: int, scale: _Scale) -> Iterator[str]:
    low, high, ticks = _range([stretch for _, one in members for stretch in one.stretches])
    for place, (number, one) in enumerate(members):
        y = top - LINE * (len(members) - place) + 6
        yield f'<path class="line c{number % COLORS}" d="M{LEFT} {y - 4}h18"/>'
        yield _label(LEFT + 24, y, f"{one.tag.name} [{one.tag.unit}]" if one.tag.unit else one.tag.name)

    def y_of(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return top + HEIGHT * (1 - (values - low) / (high - low))

    for _, one in members:
        yield from _bands(one.tag.name, "bad", one.bad, top, scale)
        yield from _bands(one.tag.name, "uncertain", one.uncertain, top, scale)
    for tick, y in zip(ticks, y_of(np.array(ticks)).tolist(), strict=True):
        yield f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>'
        yield _label(LEFT - 6, y + 4, f"{tick:.10g}", "end")
    for number, one in members:
        for stretch in one.stretches:
            yield f'<path class="line c{number % COLORS}" d="{_path(stretch, scale, y_of(stretch.values))}"/>'
    yield f'<rect class="frame" x="{LEFT}" y="{top}" width="{WIDTH - LEFT - RIGHT}" height="{HEIGHT}"/>'


def _bands(name: str, kind: str, spans: Sequence[Span], top: int, scale: _Scale) -> Iterator[str]:
    for span in spans:
        left, right = scale.x(np.array([span.start_ns, span.end_ns])).tolist()
        width = max(right - left, 1.0)  # one that is shorter than a pixel is seen, too
        yield (
            f'<rect class="{kind}" x="{left:.1f}" y="{top}" width="{width:.1f}" height="{HEIGHT}">'
            f"<title>{_text(name)}: {_text(span.quality)}</title></rect>"
        )


def _path(stretch: Stretch, scale: _Scale, y: NDArray[np.float64]) -> str:
    x = scale.x(stretch.times).tolist()
    heights = y.tolist()
    steps = [f"H{right:.1f}V{height:.1f}" for right, height in zip(x[1:], heights[1:], strict=True)]
    end = float(scale.x(stretch.end_ns))
    return f"M{x[0]:.1f} {heights[0]:.1f}{''.join(steps)}H{max(end, x[-1] + 0.5):.1f}"


def _range(stretches: Sequence[Stretch]) -> tuple[float, float, list[float]]:
    """The lower and the upper end of an axis, and where its lines are."""
    values = np.concatenate([np.empty(0), *(stretch.values for stretch in stretches)])
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    # What is flat gets a range of its own size; what is huge is halved first, so that no difference is infinite.
    span = high / 2 - low / 2
    if span <= abs(high) * 1e-12:
        span = abs(high) * 0.05 or 0.5
    middle = high / 2 + low / 2
    low, high = middle - span * 1.06, middle + span * 1.06
    if not (math.isfinite(low) and math.isfinite(high) and math.isfinite(high - low)):
        return low / 4, high / 4, [0.0]
    step = _nice((high - low) / 5)
    first = math.ceil(low / step)
    return low, high, [number * step for number in range(first, math.floor(high / step) + 1)]


def _nice(step: float) -> float:
    power = 10.0 ** math.floor(math.log10(step))
    return next((factor * power for factor in (1, 2, 5) if factor * power >= step * 0.999), 10 * power)


def _time_axis(top: int, scale: _Scale, utc: bool) -> Iterator[str]:
    length_s = (scale.end_ns - scale.start_ns) / times.NS_PER_S
    step_s = next((step for step in _TIME_STEPS_S if length_s / step <= _TICKS), length_s / _TICKS)
    step_ns = round(step_s * times.NS_PER_S)
    offset_ns = 0 if utc else time.localtime(scale.start_ns // times.NS_PER_S).tm_gmtoff * times.NS_PER_S
    at_ns = -(-(scale.start_ns + offset_ns) // step_ns) * step_ns - offset_ns
    day = ""
    while at_ns <= scale.end_ns:
        x = float(scale.x(at_ns))
        shown = times.shown(at_ns, utc)
        clock = shown[11:19] if step_s % 60 else shown[11:16]
        yield f'<path class="frame" d="M{x:.1f} {top}v5"/>'
        if step_s < 86_400:
            yield _label(x, top + 18, shown[11:23] if step_s < 1 else clock, "middle")
        if shown[:10] != day:
            day = shown[:10]
            yield _label(x, top + (34 if step_s < 86_400 else 18), day, "middle")
        at_ns += step_ns


def _label(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{_text(text)}</text>'


def _text(text: str) -> str:
    return escape(printable(text))
