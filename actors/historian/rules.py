"""The rules by which history leaves samples out, with what must outlive a restart: kept in the catalog."""

from __future__ import annotations

import zlib
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final, final

import numpy as np

from tagwerk.actors.historian.logic.series import Series, empty
from tagwerk.actors.historian.logic.thinning import KNOWN, STATE, Rule, Thinned, Thinner

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from numpy.typing import NDArray

    from tagwerk.actors.historian.interface import Places
    from tagwerk.actors.historian.logic.arrived import Arrived
    from tagwerk.protocols.samples import ValueType
    from tagwerk.protocols.tag_rows import TagRows
    from tagwerk.protocols.tags import TagDef
    from tagwerk.runtime.plantfile_models import AlarmConfig

LOOSE_BYTES: Final = 1 << 20
"""Kept states of single commits after which all are kept as one; or four times what one takes, if that is more."""


@final
class Rules:
    """Thins what arrives. `take` is part of the transaction that takes the place in the journal, `settle` follows it.

    Args:
        catalog: Where the states are kept.
        rules: One a tag.
    """

    def __init__(self, catalog: Places, rules: Iterable[Rule]) -> None:
        self._catalog = catalog
        kept = list(catalog.thinning())
        self._loose_bytes = sum(map(len, kept))
        self._thinner = Thinner(list(rules), _latest(kept))
        self._taken: Thinned | None = None

    def take(self, samples: Arrived, late: NDArray[np.bool_]) -> Arrived:
        """What of the samples goes into the store, in the transaction that this is called in.

        Args:
            samples: As they came.
            late: Which came late or as backfill, bool (n,).
        """
        found = self._thinner.thin(samples, late)
        if len(found.states):
            self._keep(found.states)
        self._taken = found
        return found.kept

    def settle(self) -> None:
        """What was taken last is committed."""
        if self._taken is not None:
            self._thinner.settle(self._taken)
        self._taken = None

    def newest(self, tag: int, kind: ValueType) -> Series:
        """What is held back of a tag; the newest of it is the tag's newest sample."""
        found = self._thinner.newest(tag)
        return found.series(slice(0, len(found)), kind) if len(found) else empty(kind)

    def _keep(self, states: NDArray[Any]) -> None:
        known = self._thinner.states
        whole = self._loose_bytes > max(LOOSE_BYTES, 4 * known.nbytes)
        if whole:
            states = _latest([known.tobytes(), states.tobytes()])
            self._loose_bytes = 0
        self._loose_bytes += states.nbytes
        self._catalog.keep_thinning(states.tobytes(), whole=whole)


def _latest(kept: Iterable[bytes]) -> NDArray[Any]:
    """The last state of each tag, `STATE` (n,); tags that were forgotten are left out."""
    pieces = [np.empty(0, STATE), *(np.frombuffer(states, STATE) for states in kept)]
    together = np.concatenate(pieces)[::-1]
    found: NDArray[Any] = together[np.unique(together["tag"], return_index=True)[1]]
    known: NDArray[Any] = found[(found["flags"] & KNOWN) != 0]
    return known


def rules_of(tags: TagRows, alarms: Mapping[str, AlarmConfig]) -> Iterator[Rule]:
    """The rule of each tag that has one.

    Args:
        tags: The definitions.
        alarms: The plant's alarms; where those of a tag turn, a sample is kept.
    """
    thinned = tags.where(tags.thinned)
    limits: defaultdict[str, set[float]] = defaultdict(set)
    for alarm in alarms.values() if len(thinned) else ():
        if alarm.limit is not None and alarm.type != "BOOL":
            back = alarm.deadband if alarm.type in ("LO", "LOLO") else -alarm.deadband
            limits[alarm.tag] |= {float(alarm.limit), float(alarm.limit) + back}
    for tag in thinned:
        yield _rule(tag, tuple(sorted(limits[tag.name])))


def _rule(tag: TagDef, limits: tuple[float, ...]) -> Rule:
    interval_ns = 0 if tag.log_max_interval_s is None else max(1, round(tag.log_max_interval_s * 1e9))
    keys = (tag.log_deadband, tag.log_compression_dev, interval_ns)
    return Rule(tag.handle, *keys, limits, zlib.crc32(repr(keys).encode()))
