"""A simulated run as a picture: one bar a call, time to the right."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from tagwerk.actors.orders.logic.pfdl.talk import OrderState
from tagwerk.actors.orders.logic.simulate import SimulatedCall, Simulation

MOST_ROWS: Final = 2_000
_LABEL, _WIDTH, _ROW, _TOP = 300, 900, 18, 30  # pixels
_COLOURS: Final = MappingProxyType(
    {
        OrderState.FINISHED: "#4c8c5a",
        OrderState.FAILED: "#b3403a",
        OrderState.CANCELLED: "#8a8a8a",
        OrderState.RUNNING: "#4a73a8",
    }
)


def gantt(simulation: Simulation) -> str:
    """Draw a run as SVG; at most the first 2,000 calls, which the picture then says."""
    calls = simulation.calls[:MOST_ROWS]
    left_out = len(simulation.calls) - len(calls)
    height = _TOP + _ROW * (len(calls) + 2)
    scale = _WIDTH / simulation.duration_s if simulation.duration_s > 0 else 0.0
    rows = [_row(call, place, scale, simulation.duration_s) for place, call in enumerate(calls)]
    ticks = [_tick(simulation.duration_s * part / 10, scale, height) for part in range(11)]
    words = f"{simulation.state}, {len(simulation.calls)} services, {simulation.duration_s:g} s"
    if left_out:
        words += f"; the last {left_out} are not drawn"
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{_LABEL + _WIDTH + 20}" height="{height}" '
            'font-family="sans-serif" font-size="11">',
            '<rect width="100%" height="100%" fill="white"/>',
            f'<text x="4" y="14" font-weight="bold">{words}</text>',
            *ticks,
            *rows,
            "</svg>\n",
        )
    )


def _row(call: SimulatedCall, place: int, scale: float, end_s: float) -> str:
    y = _TOP + _ROW * place
    end = end_s if call.end_s is None else call.end_s
    attempt = f" (attempt {call.attempt})" if call.attempt > 1 else ""
    label = f"{call.task}: {call.service}{attempt}"
    words = f"{label}, {call.start_s:g} s to {end:g} s, {call.state}"
    x, width = _LABEL + call.start_s * scale, max(1.0, (end - call.start_s) * scale)
    return (
        f'<text x="4" y="{y + 12}">{label[:48]}</text><rect x="{x:.1f}" y="{y + 2}" width="{width:.1f}" '
        f'height="{_ROW - 4}" fill="{_COLOURS[call.state]}"><title>{words}</title></rect>'
    )


def _tick(at_s: float, scale: float, height: int) -> str:
    x = _LABEL + at_s * scale
    return (
        f'<line x1="{x:.1f}" y1="{_TOP}" x2="{x:.1f}" y2="{height - _ROW}" stroke="#dddddd"/>'
        f'<text x="{x:.1f}" y="{height - 4}" text-anchor="middle">{at_s:.4g} s</text>'
    )
