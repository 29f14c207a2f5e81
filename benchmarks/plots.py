"""Plots as SVG, written by hand: readable on a light page and on a dark one, and small enough for the repository."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH = 760
BAR = 18
GAP = 8
LABEL = 330
VALUE = 100
STYLE = """<style>
text { font-family: system-ui, sans-serif; font-size: 12px; fill: #41484f }
.head { font-weight: 600 }
.line { stroke: #8b949e; stroke-width: 1; fill: none; opacity: .5 }
.tagwerk { fill: #2f7ed8 } .floor { fill: #8b949e } .peer { fill: #d9822b }
.s0 { stroke: #2f7ed8; fill: #2f7ed8 } .s1 { stroke: #d9822b; fill: #d9822b } .s2 { stroke: #3d9a5f; fill: #3d9a5f }
.s3 { stroke: #a05fc4; fill: #a05fc4 } polyline { stroke-width: 2; fill: none !important }
@media (prefers-color-scheme: dark) { text { fill: #c3cad2 } }
</style>"""


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar.

    Args:
        label: Whose.
        value: How long, before the logarithm.
        kind: "tagwerk", "floor" or "peer": its colour.
    """

    label: str
    value: float
    kind: str


def number(value: float) -> str:
    """Give a figure with three digits that count."""
    if not math.isfinite(value):
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def bars(title: str, unit: str, all_bars: Sequence[Bar]) -> str:
    """Draw bars on a logarithmic scale: what is compared differs by powers of ten."""
    shown = [bar for bar in all_bars if bar.value > 0 and math.isfinite(bar.value)]
    low = math.floor(math.log10(min(bar.value for bar in shown)) - 0.3)
    high = math.log10(max(bar.value for bar in shown))
    room = WIDTH - LABEL - VALUE
    parts = [_text(0, 14, f"{title}, {unit} (logarithmic)", "head")]
    for place, bar in enumerate(shown):
        top = 28 + place * (BAR + GAP)
        width = room * (math.log10(bar.value) - low) / max(high - low, 0.1)
        parts.append(_text(LABEL - 8, top + 13, bar.label, anchor="end"))
        parts.append(f'<rect class="{bar.kind}" x="{LABEL}" y="{top}" width="{width:.1f}" height="{BAR}" rx="2"/>')
        parts.append(_text(LABEL + width + 6, top + 13, number(bar.value)))
    return _svg(28 + len(shown) * (BAR + GAP), parts)


def lines(title: str, x_name: str, y_name: str, series: dict[str, list[tuple[float, float]]]) -> str:
    """Draw lines, both scales logarithmic, a colour and a name for each."""
    points = [point for line in series.values() for point in line if point[0] > 0 and point[1] > 0]
    left, top, width, height = 90.0, 34.0, 440.0, 220.0
    x_of = _scale([x for x, _ in points], left, left + width)
    y_of = _scale([y for _, y in points], top + height, top)
    parts = [_text(0, 14, title, "head"), _text(left + width / 2, top + height + 36, x_name, anchor="middle")]
    parts.append(_text(0, 30, y_name))
    for value in sorted({x for x, _ in points}):
        parts.append(_text(x_of(value), top + height + 18, number(value), anchor="middle"))
    for value in _ticks([y for _, y in points]):
        parts.append(f'<path class="line" d="M{left} {y_of(value):.1f}h{width}"/>')
        parts.append(_text(left - 8, y_of(value) + 4, number(value), anchor="end"))
    for place, (name, line) in enumerate(series.items()):
        shown = [(x_of(x), y_of(y)) for x, y in line if x > 0 and y > 0]
        parts.append(f'<polyline class="s{place % 4}" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in shown)}"/>')
        parts += (f'<circle class="s{place % 4}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in shown)
        legend = top + 12 + 18 * place
        parts.append(f'<rect class="s{place % 4}" x="{left + width + 16}" y="{legend - 9}" width="10" height="10"/>')
        parts.append(_text(left + width + 32, legend, name))
    return _svg(top + height + 44, parts)


def _scale(values: Sequence[float], start: float, end: float) -> Callable[[float], float]:
    low, high = math.log10(min(values)), math.log10(max(values))
    if high - low < 0.2:  # a flat line lies in the middle
        low, high = low - 0.3, high + 0.3
    return lambda value: start + (end - start) * (math.log10(value) - low) / (high - low)


def _ticks(values: Sequence[float]) -> list[float]:
    low, high = math.log10(min(values)), math.log10(max(values))
    found = [
        step * 10.0**power
        for power in range(math.floor(low), math.ceil(high) + 1)
        for step in ((1, 2, 5) if high - low < 1.5 else (1,))
        if low - 0.05 <= math.log10(step) + power <= high + 0.05
    ]
    return found or [min(values)]


def _text(x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">{escape(words)}</text>'


def _svg(height: float, parts: Sequence[str]) -> str:
    size = f'viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" height="{height:.0f}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size}>'
    return "\n".join((head, STYLE, *parts, "</svg>")) + "\n"
