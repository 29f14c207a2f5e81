"""Faults of asyncua 2.1.0's server that a simulated PLC must not have; each names the upstream lines."""

from datetime import datetime
from functools import lru_cache
from struct import Struct
from typing import Any, Final

from asyncua import ua
from asyncua.common.utils import ServiceError
from asyncua.server.internal_subscription import InternalSubscription
from asyncua.server.monitored_item_service import MonitoredItemService, MonitoredItemValues
from asyncua.server.subscription_service import SubscriptionService
from asyncua.ua import ua_binary
from asyncua.ua.status_codes import StatusCodes

VALUE_STATUS_AND_TIMES: Final = 0x0F  # which fields of a DataValue are there
LAYOUTS: Final = {  # handle, fields, type, value, status, source's time, server's time
    ua.VariantType.Boolean: Struct("<IBB?Iqq"),
    ua.VariantType.UInt16: Struct("<IBBHIqq"),
    ua.VariantType.Int32: Struct("<IBBiIqq"),
    ua.VariantType.Int64: Struct("<IBBqIqq"),
    ua.VariantType.Float: Struct("<IBBfIqq"),
    ua.VariantType.Double: Struct("<IBBdIqq"),
}


def mend_republish() -> None:
    """Make asyncua refuse a Republish that it cannot serve (OPC 10000-4, 5.14.6.3).

    asyncua 2.1.0 answers an empty message for an unknown subscription (subscription_service.py, line 176) and for an
    unknown sequence (internal_subscription.py, line 256): its own client then asks for the next one, for ever.
    """

    def republish(self: InternalSubscription, nb: int) -> ua.NotificationMessage:
        # Kept until it is acknowledged: a reply that is lost on the way may be asked for again.
        result = self._not_acknowledged_results.get(nb)
        if result is None:
            raise ServiceError(StatusCodes.BadMessageNotAvailable)
        message: ua.NotificationMessage = result.NotificationMessage
        return message

    def find(self: SubscriptionService, params: ua.RepublishParameters) -> ua.NotificationMessage:
        subscription = self.subscriptions.get(params.SubscriptionId)
        if subscription is None:
            raise ServiceError(StatusCodes.BadSubscriptionIdInvalid)
        return subscription.republish(params.RetransmitSequenceNumber)

    InternalSubscription.republish = republish  # type: ignore[method-assign]
    SubscriptionService.republish = find  # type: ignore[method-assign]


def mend_notifications() -> None:
    """Tell of a changed value at a third of the cost; what is told, and to whom, stays as it is.

    asyncua copies each value deeply (monitored_item_service.py, line 41), though this PLC never changes a DataValue
    that it has written; it makes a notification before it knows whether one is needed (line 258); and it encodes one
    field by field, each through several calls (ua_binary.py, line 416).
    """

    def keep(self: MonitoredItemValues, cur_val: ua.DataValue) -> None:
        self.old_dvalue, self.current_dvalue = self.current_dvalue, cur_val

    whole = MonitoredItemService.datachange_callback

    async def tell(
        self: MonitoredItemService, handle: int, value: ua.DataValue, error: ua.StatusCode | None = None
    ) -> None:
        mid = self._monitored_datachange[handle]
        item = self._monitored_items[mid]
        if error is not None or item.filter or item.mode == ua.MonitoringMode.Disabled:
            await whole(self, handle, value, error)
            return
        old = item.mvalue.current_dvalue
        item.mvalue.set_current_datavalue(value)
        if old is None or old.Value != value.Value or old.StatusCode != value.StatusCode:
            told = ua.MonitoredItemNotification(item.client_handle, value)
            await self.isub.enqueue_datachange_event(mid, told, item.queue_size)

    MonitoredItemValues.set_current_datavalue = keep  # type: ignore[method-assign]
    MonitoredItemService.datachange_callback = tell  # type: ignore[method-assign]
    mend_encoding()


def mend_encoding() -> None:
    """Encode a notification of a plain value with both times in one step. To be called before anything is encoded."""
    serializer = ua_binary.create_dataclass_serializer
    whole = serializer(ua.MonitoredItemNotification)
    ticks = lru_cache(8)(ua.datetime_to_win_epoch)  # all values of a scan have the same times

    def encode(told: ua.MonitoredItemNotification) -> bytes:
        value = told.Value
        variant, status, source, server = value.Value, value.StatusCode, value.SourceTimestamp, value.ServerTimestamp
        if variant is None or status is None or not isinstance(source, datetime) or not isinstance(server, datetime):
            return whole(told)
        layout = LAYOUTS.get(variant.VariantType)
        if (
            layout is None
            or variant.is_array
            or value.SourcePicoseconds is not None
            or value.ServerPicoseconds is not None
        ):
            return whole(told)
        return layout.pack(
            told.ClientHandle, VALUE_STATUS_AND_TIMES, variant.VariantType, variant.Value, status.value,
            ticks(source), ticks(server),
        )  # fmt: skip

    def serializer_of(kind: type) -> Any:
        return encode if kind is ua.MonitoredItemNotification else serializer(kind)

    ua_binary.create_dataclass_serializer = serializer_of
