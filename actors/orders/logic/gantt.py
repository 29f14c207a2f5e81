"""A run as a picture, a simulated one or one that really happened: one bar a call, time to the right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from types import MappingProxyType
from typing import Final, NamedTuple

from tagwerk.actors.orders.logic.pfdl.talk import OrderState
from tagwerk.actors.orders.logic.simulate import SimulatedCall, Simulation
from tagwerk.protocols.orders import OrderRow, ServiceRow

MOST_ROWS: Final = 2_000
_LABEL, _WIDTH, _ROW, _TOP = 300, 900, 18, 30  # pixels
COLOURS: Final[Mapping[str, str]] = MappingProxyType(
    {
        OrderState.FINISHED: "#4c8c5a",
        OrderState.FAILED: "#b3403a",
        OrderState.CANCELLED: "#8a8a8a",
        OrderState.RUNNING: "#4a73a8",
        "UNKNOWN": "#c98a2b",
        "WAITING": "#d8d8d8",
    }
)


class Bar(NamedTuple):
    """One call in the picture.

    Args:
        label: What stands before it.
        start_s: When it was asked for, from the order's start.
        begun_s: When it was called; before that it waited. None: it never was.
        end_s: When it ended; None: it has not.
        colour: Of the bar.
        words: What the pointer shows.
    """

    label: str
    start_s: float
    begun_s: float | None
    end_s: float | None
    colour: str
    words: str


def gantt(simulation: Simulation) -> str:
    """Draw a simulated run as SVG; at most the first 2,000 calls, which the picture then says."""
    bars = [_bar(call, simulation.duration_s) for call in simulation.calls]
    return draw(bars, simulation.state, simulation.duration_s)


def gantt_of_order(row: OrderRow, services: Sequence[ServiceRow], now_ns: int) -> str:
    """Draw what really happened to an order: grey while a service waited, coloured while it was at work."""
    bars: list[Bar] = []
    end_ns = max([row.ended_ns or now_ns, *(one.ended_ns for one in services)])
    for one in services:
        start_s, end_s = _since(row, one.started_ns), _since(row, one.ended_ns) if one.ended_ns else None
        begun_s = _since(row, one.called_ns) if one.called_ns else None
        attempt = f" (attempt {one.attempt})" if one.attempt > 1 else ""
        label = f"{one.number} {one.task}: {one.name}{attempt} @ {one.resource.removeprefix('resource/') or '-'}"
        called = "never called" if begun_s is None else f"called at {begun_s:.3f} s"
        ended = "has not ended" if end_s is None else f"ended at {end_s:.3f} s"
        words = f"{label}: asked for at {start_s:.3f} s, {called}, {ended}, {one.state} {one.reason}".strip()
        bars.append(Bar(label, start_s, begun_s, end_s, COLOURS.get(one.state, "#4a73a8"), words))
    return draw(bars, f"{row.id} ({row.name}): {row.state}", (end_ns - row.started_ns) / 1e9)


def _since(row: OrderRow, at_ns: int) -> float:
    return max(0.0, (at_ns - row.started_ns) / 1e9)


def _bar(call: SimulatedCall, end_s: float) -> Bar:
    end = end_s if call.end_s is None else call.end_s
    attempt = f" (attempt {call.attempt})" if call.attempt > 1 else ""
    label = f"{call.task}: {call.service}{attempt}"
    words = f"{label}, {call.start_s:g} s to {end:g} s, {call.state}"
    return Bar(label, call.start_s, call.start_s, call.end_s, COLOURS[call.state], words)


def draw(all_bars: Sequence[Bar], head: str, duration_s: float) -> str:
    """Draw bars as SVG; at most the first 2,000, which the picture then says."""
    bars = all_bars[:MOST_ROWS]
    left_out = len(all_bars) - len(bars)
    height = _TOP + _ROW * (len(bars) + 2)
    scale = _WIDTH / duration_s if duration_s > 0 else 0.0
    rows = [_row(bar, place, scale, duration_s) for place, bar in enumerate(bars)]
    ticks = [_tick(duration_s * part / 10, scale, height) for part in range(11)]
    words = f"{head}, {len(all_bars)} services, {duration_s:g} s"
    if left_out:
        words += f"; the last {left_out} are not drawn"
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{_LABEL + _WIDTH + 20}" height="{height}" '
            'font-family="sans-serif" font-size="11">',
            '<rect width="100%" height="100%" fill="white"/>',
            f'<text x="4" y="14" font-weight="bold">{escape(words)}</text>',
            *ticks,
            *rows,
            "</svg>\n",
        )
    )


def _row(bar: Bar, place: int, scale: float, last_s: float) -> str:
    y = _TOP + _ROW * place
    end_s = last_s if bar.end_s is None else bar.end_s
    begun_s = end_s if bar.begun_s is None else bar.begun_s
    waited = _rect(bar.start_s, begun_s, y, scale, COLOURS["WAITING"]) if begun_s > bar.start_s else ""
    worked = _rect(begun_s, end_s, y, scale, bar.colour) if bar.begun_s is not None else ""
    label = f'<text x="4" y="{y + 12}">{escape(bar.label[:48])}</text>'
    return f"<g><title>{escape(bar.words)}</title>{label}{waited}{worked}</g>"


def _rect(start_s: float, end_s: float, y: int, scale: float, colour: str) -> str:
    x, width = _LABEL + start_s * scale, max(1.0, (end_s - start_s) * scale)
    return f'<rect x="{x:.1f}" y="{y + 2}" width="{width:.1f}" height="{_ROW - 4}" fill="{colour}"/>'


def _tick(at_s: float, scale: float, height: int) -> str:
    x = _LABEL + at_s * scale
    return (
        f'<line x1="{x:.1f}" y1="{_TOP}" x2="{x:.1f}" y2="{height - _ROW}" stroke="#dddddd"/>'
        f'<text x="{x:.1f}" y="{height - 4}" text-anchor="middle">{at_s:.4g} s</text>'
    )
