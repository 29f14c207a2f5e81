"""Samples from elsewhere: each goes into history once, however often it is sent, and is marked as backfilled.

They do not take the way over the shards: a shard refuses what another source owns, its journal has a bound that live
samples need, and only here is known what history has already. So nothing is to be remembered of an import: a file that
was sent before, in part or as a part of another one, adds what is new in it.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final, final

import numpy as np

from tagwerk.actors.historian.asking import not_there
from tagwerk.actors.historian.hot import DAY_NS
from tagwerk.actors.historian.interface import HistoryStore, StoreDown
from tagwerk.actors.historian.logic.arrived import Arrived, tag_starts, without_unused_texts
from tagwerk.actors.historian.logic.imported import are_new, arrived_of, at_times
from tagwerk.actors.historian.past import Past
from tagwerk.protocols.errors import RefusedCode
from tagwerk.protocols.history import ImportTaken
from tagwerk.protocols.message import Refusal
from tagwerk.protocols.samples import TYPE_NAMES, ValueType
from tagwerk.runtime.actor import Later

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from numpy.typing import NDArray

    from tagwerk.actors.historian.fresh import Cancels
    from tagwerk.actors.historian.logic.series import Series
    from tagwerk.actors.historian.past import Part
    from tagwerk.protocols.history import ImportSamples
    from tagwerk.protocols.message import Message
    from tagwerk.protocols.tags import TagDef

LOOKS_A_STEP: Final = 32
"""Tags and parts of their past looked at in one step: a few ms."""


@final
class Importing:
    """Takes imported samples into a store, one message at a time.

    Args:
        store: The store.
        tag_of: Gives the definition of a handle, or None.
        after: Calls back after so many seconds.
        keep: Commits samples; gives why it could not, "" if it has.
    """

    def __init__(
        self,
        store: HistoryStore,
        tag_of: Callable[[int], TagDef | None],
        after: Callable[[float, Callable[[], None]], Cancels],
        keep: Callable[[Arrived], str],
    ) -> None:
        self._store = store
        self._tag_of = tag_of
        self._after = after
        self._keep = keep
        self._meanwhile: list[Arrived] | None = None
        self._given_up = False
        self._looks = 0

    def give_up(self) -> None:
        """The store is gone: what was compared with it may not be all that is there when it is back."""
        self._given_up = self._meanwhile is not None

    def saw(self, samples: Arrived) -> None:
        """These were committed: an import that is being compared with what was there has not seen them."""
        if self._meanwhile is not None:
            self._meanwhile.append(samples)

    def take(self, asked: ImportSamples) -> Message | Later:
        """Commit what is new. Answered when it is."""
        if self._meanwhile is not None:
            return Refusal(RefusedCode.CONFLICT, "another import is being taken; ask again")
        try:
            given = arrived_of(asked)
        except ValueError as error:
            return Refusal(RefusedCode.BAD_VALUE, str(error))
        refusal = self._wrong_tag(given)
        if refusal is not None:
            return refusal
        later = Later()
        self._meanwhile = []
        self._store.readings += 1
        self._step(self._taking(given), later)
        return later

    def _wrong_tag(self, given: Arrived) -> Refusal | None:
        handles, starts = tag_starts(given.tags)
        for handle, start, end in zip(handles.tolist(), starts[:-1].tolist(), starts[1:].tolist(), strict=True):
            tag = self._tag_of(handle)
            if tag is None:
                return Refusal(RefusedCode.UNKNOWN_TAG, f"no tag has the handle {handle}")
            if not tag.log:
                return Refusal(RefusedCode.NOT_PERMITTED, f"{tag.name} has log = false: history keeps none", tag.name)
            kinds = given.kinds[start:end]
            if not bool(((kinds == TYPE_NAMES[tag.type]) | (kinds == ValueType.QUALITY)).all()):
                return Refusal(RefusedCode.WRONG_TYPE, f"{tag.name} is a {tag.type}; other values were sent", tag.name)
        return None

    def _step(self, taking: Generator[None, None, Message], later: Later) -> None:
        if self._given_up:
            self._end()
            later.reply(Refusal(RefusedCode.CONFLICT, "history was away meanwhile; ask again"))
            return
        try:
            next(taking)
        except StopIteration as done:
            self._end()
            later.reply(done.value)
        except StoreDown as error:
            self._end()
            later.reply(not_there(error))
        except BaseException:
            self._end()
            raise
        else:
            self._after(0.0, lambda: self._step(taking, later))

    def _end(self) -> None:
        self._meanwhile = None
        self._given_up = False
        self._store.readings -= 1

    def _taking(self, given: Arrived) -> Generator[None, None, Message]:
        new = np.zeros(len(given), np.bool_)
        handles, starts = tag_starts(given.tags)
        self._looks = 0
        for handle, start, end in zip(handles.tolist(), starts[:-1].tolist(), starts[1:].tolist(), strict=True):
            mine = given.series(slice(start, end), self._kind(handle))
            new[start:end] = yield from self._compare(handle, mine)
        for samples in self._meanwhile or ():  # nothing comes between here and the commit
            self._compare_live(samples, given, new)
        added = int(np.count_nonzero(new))
        if added:
            kept = given.take(new)
            why_not = self._keep(without_unused_texts(kept) if kept.texts else kept)
            if why_not:
                return Refusal(RefusedCode.NOT_PERMITTED, why_not)
        return ImportTaken(added, len(given) - added)

    def _compare(self, handle: int, mine: Series) -> Generator[None, None, NDArray[np.bool_]]:
        """Say which samples of a tag are new: only the parts of its past where some of them lie are opened."""
        past = Past(self._store, handle, mine.kind)
        _, starts = np.unique(mine.times // DAY_NS, return_index=True)
        found: list[Series] = []
        for start, end in pairwise([*starts.tolist(), len(mine)]):
            times = mine.times[start:end]
            for part in past.parts(int(times[0]), int(times[-1]) + 1):
                if np.searchsorted(times, _first(part)) < np.searchsorted(times, _last(part), side="right"):
                    found.append(at_times(past.load(part), times))
                    self._looks += 1
            self._looks += 1
            if self._looks >= LOOKS_A_STEP:
                self._looks = 0
                yield
        return are_new(found, mine)

    def _compare_live(self, samples: Arrived, given: Arrived, new: NDArray[np.bool_]) -> None:
        shared: list[int] = np.intersect1d(samples.tags, given.tags).tolist()
        for handle in shared:
            first, end = np.searchsorted(given.tags, (handle, handle + 1)).tolist()
            kind = self._kind(handle)
            live = samples.series(np.flatnonzero(samples.tags == handle), kind)
            new[first:end] &= are_new([live], given.series(slice(first, end), kind))

    def _kind(self, handle: int) -> ValueType:
        tag = self._tag_of(handle)
        assert tag is not None, "it was looked up when the message came"
        return TYPE_NAMES[tag.type]


def _first(part: Part) -> int:
    hot = [int(part.hot.times[0])] if len(part.hot) else []
    return min([chunk.first for chunk in part.chunks] + hot)


def _last(part: Part) -> int:
    hot = [int(part.hot.times[-1])] if len(part.hot) else []
    return max([chunk.last for chunk in part.chunks] + hot)
