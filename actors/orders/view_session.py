"""What one request of a client may cost: a server that works at it for seconds serves nobody else, and looks hung.

asyncua 2.1.0 does what a request asks for in one go, however much it is, and has no continuation points. Here it is
done in parts, others have their turn between them, and what is too much is refused as OPC UA has it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any, Final, TypeVar, final

from asyncua import ua
from asyncua.common.utils import ServiceError
from asyncua.server.internal_session import InternalSession
from asyncua.ua.status_codes import StatusCodes

OPERATIONS_LIMIT: Final = 5_000
"""Of one request."""
REFERENCES_LIMIT: Final = 20_000
"""In one answer."""
ANSWER_BYTES: Final = 8 << 20
"""Of values in one answer."""
ITEMS_LIMIT: Final = 5_000
"""Monitored items of one session."""
PART: Final = 50
"""Operations that are done in one go."""

T = TypeVar("T")


@final
class ViewSession(InternalSession):
    """A session of a client."""

    async def read(self, params: ua.ReadParameters) -> list[ua.DataValue]:
        """Read attributes."""
        results: list[ua.DataValue] = []
        size = 0
        async for part in _parts(params.NodesToRead):
            found = await super().read(replace(params, NodesToRead=part))
            size += sum(size_of(one.Value.Value) for one in found if one.Value is not None)
            if size > ANSWER_BYTES:
                raise ServiceError(StatusCodes.BadResponseTooLarge)
            results += found
        return results

    async def browse(self, params: ua.BrowseParameters) -> list[ua.BrowseResult]:
        """Give references."""
        results: list[ua.BrowseResult] = []
        references = 0
        async for part in _parts(params.NodesToBrowse, 1):  # one may have thousands
            results += await super().browse(replace(params, NodesToBrowse=part))
            references += len(results[-1].References)
            if references > REFERENCES_LIMIT:
                raise ServiceError(StatusCodes.BadResponseTooLarge)
        return results

    async def translate_browsepaths_to_nodeids(self, params: list[ua.BrowsePath]) -> list[ua.BrowsePathResult]:
        """Follow paths."""
        results: list[ua.BrowsePathResult] = []
        async for part in _parts(params, 1):
            results += await super().translate_browsepaths_to_nodeids(part)
        return results

    async def create_monitored_items(
        self, params: ua.CreateMonitoredItemsParameters
    ) -> list[ua.MonitoredItemCreateResult]:
        """Watch attributes."""
        if self._items() + len(params.ItemsToCreate) > ITEMS_LIMIT:
            raise ServiceError(StatusCodes.BadTooManyMonitoredItems)
        results: list[ua.MonitoredItemCreateResult] = []
        async for part in _parts(params.ItemsToCreate):
            results += await super().create_monitored_items(replace(params, ItemsToCreate=part))
        return results

    async def modify_monitored_items(
        self, params: ua.ModifyMonitoredItemsParameters
    ) -> list[ua.MonitoredItemModifyResult]:
        """Watch them in another way."""
        results: list[ua.MonitoredItemModifyResult] = []
        async for part in _parts(params.ItemsToModify):
            results += await super().modify_monitored_items(replace(params, ItemsToModify=part))
        return results

    def _items(self) -> int:
        mine = (one for one in self.subscription_service.subscriptions.values() if one.session_id == self.session_id)
        return sum(len(one.monitored_item_srv._monitored_items) for one in mine)  # noqa: SLF001


async def _parts(operations: Sequence[T], count: int = PART) -> AsyncIterator[list[T]]:
    """Give operations in parts, with turns of others between.

    Raises:
        ServiceError: There are too many.
    """
    if len(operations) > OPERATIONS_LIMIT:
        raise ServiceError(StatusCodes.BadTooManyOperations)
    for start in range(0, len(operations), count):
        yield list(operations[start : start + count])
        await asyncio.sleep(0)


def size_of(value: Any) -> int:
    """Give about how many bytes a value takes, at least 100."""
    if isinstance(value, list):
        return 100 + sum(size_of(one) for one in value)
    if isinstance(value, ua.ExtensionObject):
        return len(value.Body or b"") + 100
    return len(value) + 100 if isinstance(value, (str, bytes)) else 100
