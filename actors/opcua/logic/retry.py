"""When to try again. Chance comes in as a number, so that each delay can be tested."""

from __future__ import annotations

from typing import Final

RECONNECT_FIRST_S: Final = 0.1
RECONNECT_GROWTH: Final = 1.5  # slowly: a PLC that is just starting is there within seconds
RECONNECT_CAP_S: Final = 2.0
ITEM_FIRST_S: Final = 1.0
ITEM_CAP_S: Final = 10.0
ITEM_GROWTH: Final = 2.0


def reconnect_delay_s(failures: int, chance: float) -> float:
    """The pause before the next attempt.

    Args:
        failures: Attempts that failed in a row, from 1.
        chance: Uniform in [0, 1): spreads links that lost one server, so that they do not come back in one moment.
    """
    return _spread(RECONNECT_FIRST_S, RECONNECT_CAP_S, RECONNECT_GROWTH, failures, chance)


def item_delay_s(failures: int, chance: float) -> float:
    """The pause before nodes that the server refused are asked for again; for ever."""
    return _spread(ITEM_FIRST_S, ITEM_CAP_S, ITEM_GROWTH, failures, chance)


def _spread(first_s: float, cap_s: float, growth: float, failures: int, chance: float) -> float:
    full = min(cap_s, first_s * growth ** min(max(failures, 1) - 1, 16))
    return full * (0.75 + 0.25 * chance)
