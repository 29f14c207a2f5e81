"""History, as a script asks for it: page after page, until the span or the limit is at its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tagwerk.protocols.history import GetHistory, HistoryPage
from tagwerk.protocols.samples import Samples, decode
from tagwerk.runtime.attach_values import joined

if TYPE_CHECKING:
    from tagwerk.protocols.tags import TagDef
    from tagwerk.runtime.attach_ask import Asker


def history_of(
    asker: Asker, tag: TagDef, span: tuple[int, int], limit: int | None, bounds: bool, newest: bool
) -> Samples:
    """The samples of a tag, oldest first. See `Plant.history`.

    Args:
        asker: Asks the historian.
        tag: Of what.
        span: From and before, UTC ns since 1970.
        limit: At most so many.
        bounds: Also the sample before the span, and the one behind it.
        newest: With `limit`, the last ones.

    Raises:
        Unavailable: The historian does not answer.
    """
    batches: list[Samples] = []
    after, skip, left = 0, 0, limit or 0
    while True:
        question = GetHistory(tag.handle, *span, left, after, bounds, newest, skip)
        page = asker.query("historian/0", question, HistoryPage)
        found = [batch for frame in page.frames for batch in decode(frame)]
        batches.extend(found)
        if limit is not None:
            left -= sum(map(len, found))
        if page.next_after is None or (limit is not None and left <= 0):
            return joined(tag, batches)
        after, skip = page.next_after, page.skip
