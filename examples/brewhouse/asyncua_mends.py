"""Faults of asyncua 2.1.0's server that a simulated PLC must not have; each names the upstream lines."""

from asyncua import ua
from asyncua.common.utils import ServiceError
from asyncua.server.internal_subscription import InternalSubscription
from asyncua.server.monitored_item_service import MonitoredItemValues
from asyncua.server.subscription_service import SubscriptionService
from asyncua.ua.status_codes import StatusCodes


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
    """Keep a monitored value as it is, where asyncua copies it deeply (monitored_item_service.py, line 41).

    The copy is two thirds of the cost of a notification, and this PLC never changes a DataValue that it has written.
    """

    def keep(self: MonitoredItemValues, cur_val: ua.DataValue) -> None:
        self.old_dvalue, self.current_dvalue = self.current_dvalue, cur_val

    MonitoredItemValues.set_current_datavalue = keep  # type: ignore[method-assign]
