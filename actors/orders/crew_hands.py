"""What the crew has others do, once its cause is stored: find resources, hand services to them, take these back."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final, final

from tagwerk.actors.orders.logic.life import Assign, Effect, Execute, ServiceRun, ServiceState, Stop, Wake
from tagwerk.actors.orders.logic.records import Assigned, Fell
from tagwerk.actors.orders.logic.services import Failure
from tagwerk.protocols.errors import Refused, RefusedCode
from tagwerk.protocols.message import Message, encode_message
from tagwerk.protocols.orders import (
    ASSIGNER,
    AssignService,
    ExecuteService,
    ServiceAssigned,
    ServiceStatus,
    StopService,
)
from tagwerk.runtime.transport import REQUEST_LIMIT_BYTES

if TYPE_CHECKING:
    from tagwerk.actors.orders.crew import Crew
    from tagwerk.runtime.control import Outcome

AGAIN_S: Final = 0.1
"""A message that was not answered is sent again so soon; each of them may be."""
LATER_S: Final = 0.5
"""So soon a resource is looked for again that is not there yet."""
ANSWER_LIMIT_S: Final = 10.0


@final
class Hands:
    """The crew's.

    Args:
        crew: Whose.
        assign_wait_s: How long a resource is looked for that is not there.
    """

    def __init__(self, crew: Crew, assign_wait_s: float) -> None:
        self._crew = crew
        self._wait_ns = int(assign_wait_s * 1e9)
        self._assigning: set[str] = set()
        self._missing: dict[str, int] = {}  # service -> since when no resource is there for it, monotonic

    def do(self, order_id: str, effect: Effect) -> None:
        """Do it; what it comes to becomes a record."""
        if isinstance(effect, Assign):
            self._assign(order_id, effect.service.uuid)
        elif isinstance(effect, Execute):
            self._execute(order_id, effect.service.uuid)
        elif isinstance(effect, Stop):
            self._stop(order_id, effect)
        else:
            assert isinstance(effect, Wake)
            self._crew.wake_dispatcher(order_id)

    def _service(self, order_id: str, uuid: str, state: ServiceState) -> ServiceRun | None:
        live = self._crew.live.get(order_id)
        one = None if live is None else live.order.life.services.get(uuid)
        return one if one is not None and one.state == state else None

    def _again(self, seconds: float, what: partial[None]) -> None:
        self._crew.after(seconds, what)

    # --- a resource for it ---

    def _assign(self, order_id: str, uuid: str) -> None:
        one = self._service(order_id, uuid, ServiceState.WAITING)
        if one is None or uuid in self._assigning or self._crew.live[order_id].order.life.paused:
            return
        self._assigning.add(uuid)
        question = AssignService(uuid, one.name, one.inputs, one.avoid, one.exclude)
        self._crew.ask(ASSIGNER, question, partial(self._assigned, order_id, uuid), ANSWER_LIMIT_S)

    def _assigned(self, order_id: str, uuid: str, outcome: Outcome) -> None:
        self._assigning.discard(uuid)
        one = self._service(order_id, uuid, ServiceState.WAITING)
        missing = isinstance(outcome, Refused) and outcome.code == RefusedCode.NO_COMMUNICATION
        mono_ns = self._crew.clock.mono_ns()
        since_ns = self._missing.pop(uuid, mono_ns)
        if one is None or self._crew.live[order_id].order.life.paused:
            return
        if isinstance(outcome, ServiceAssigned):
            found = Assigned(uuid, outcome.resource, outcome.url, outcome.why, outcome.fixed)
            self._crew.record(order_id, found)
        elif isinstance(outcome, Refused) and not missing:
            self._crew.record(order_id, Fell(uuid, Failure.REJECTED, outcome.message))
        elif isinstance(outcome, Refused) and mono_ns - since_ns > self._wait_ns:
            self._crew.record(order_id, Fell(uuid, Failure.UNREACHABLE, outcome.message))
        else:  # the assigner is just being restarted, or a resource is: a question may be asked again
            self._missing[uuid] = since_ns
            wait_s = LATER_S if isinstance(outcome, Refused) else AGAIN_S
            self._again(wait_s, partial(self._assign, order_id, uuid))

    # --- its execution ---

    def _execute(self, order_id: str, uuid: str) -> None:
        one = self._service(order_id, uuid, ServiceState.SENT)
        if one is None:
            return
        priority = self._crew.live[order_id].stored.priority
        message = ExecuteService(
            order_id, one.number, uuid, one.task_uuid, one.name, one.url, priority, one.inputs, one.outputs,
            again=one.phase != "",
        )  # fmt: skip
        size = len(encode_message(message))
        if size > REQUEST_LIMIT_BYTES:  # no message carries it, now or later
            reason = f"its inputs take {size} bytes; at most {REQUEST_LIMIT_BYTES} can be sent"
            self._crew.record(order_id, Fell(uuid, Failure.REJECTED, reason))
            return
        self._crew.ask(one.resource, message, partial(self._taken, order_id, uuid, one.resource), ANSWER_LIMIT_S)

    def _taken(self, order_id: str, uuid: str, resource: str, outcome: Outcome) -> None:
        if isinstance(outcome, ServiceStatus):
            self._crew.take_status(outcome)
            return
        one = self._service(order_id, uuid, ServiceState.SENT)
        if one is None or one.resource != resource:
            return
        if isinstance(outcome, (Refused, Message)):
            reason = outcome.message if isinstance(outcome, Refused) else f"answered {type(outcome).__name__}"
            self._crew.record(order_id, Fell(uuid, Failure.REJECTED, f"{resource}: {reason}"))
        else:
            self._again(AGAIN_S, partial(self._execute, order_id, uuid))

    def _stop(self, order_id: str, effect: Stop) -> None:
        live = self._crew.live.get(order_id)
        if live is None or effect.service_uuid not in live.order.life.stopping:
            return
        then = partial(self._stopped, order_id, effect)
        self._crew.ask(effect.resource, StopService(effect.service_uuid), then, ANSWER_LIMIT_S)

    def _stopped(self, order_id: str, effect: Stop, outcome: Outcome) -> None:
        if isinstance(outcome, ServiceStatus):
            # Not ended yet: the resource says so when it has, in a message of its own.
            live = self._crew.live.get(order_id)
            if live is not None:
                self._crew.take_status(outcome)
            return
        self._again(AGAIN_S, partial(self._stop, order_id, effect))
