"""The actor `assigner/0`: finds the resource of a service. It remembers nothing that matters: questions may come again.

What the order names goes first, then a device registry (and an agent), then the plant's own resources: of those that
offer the service the one with the shortest line.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Final, final

from tagwerk.actors.orders.access import security_of
from tagwerk.actors.orders.assigner import Assigner
from tagwerk.actors.orders.logic.assignment import Wanted, wanted
from tagwerk.actors.orders.logic.choice import Candidate, chosen
from tagwerk.actors.orders.logic.pfdl.talk import Parameter
from tagwerk.actors.orders.logic.services import Failure, ServiceFault
from tagwerk.actors.orders.session import quiet_asyncua
from tagwerk.protocols.errors import ConfigError
from tagwerk.protocols.message import Done, Message, Refusal
from tagwerk.protocols.orders import OTHERS, AssignService, GetResource, ResourceState, ServiceAssigned
from tagwerk.runtime.actor import AsyncActor, Later, Sender
from tagwerk.runtime.plantfile_orders import normal_url

if TYPE_CHECKING:
    from tagwerk.runtime.context import ActorContext
    from tagwerk.runtime.control import Outcome
    from tagwerk.runtime.ua_security import Security

ASK_LIMIT_S: Final = 1.0
FRESH_NS: Final = 100_000_000
"""So long an assignment counts as load even if its resource does not show it."""
STATES_NS: Final = 3_000_000_000
"""Resources say by themselves how they stand, at each change and once a second; one that is silent is asked."""


@final
class AssignerActor(AsyncActor):
    """See the module."""

    def __init__(self, context: ActorContext) -> None:
        super().__init__(context)
        self._config = context.plant.order
        self._by_url = {normal_url(one.url): f"resource/{name}" for name, one in context.plant.resources.items()}
        self._states: dict[str, ResourceState] = {}
        self._heard_ns: dict[str, int] = {}
        self._recent: dict[str, tuple[str, int]] = {}

    def on_start(self) -> None:
        """Nothing is asked before somebody asks us."""
        quiet_asyncua()
        self._assigner = Assigner(self._config.custom_url, self._security)
        self.ready()

    async def on_stop_async(self) -> None:
        """End the sessions with registries and agents."""
        await self._assigner.close()

    def on_message(self, message: Message, sender: Sender) -> Message | Later | None:
        """`AssignService`, `ResourceState`."""
        if isinstance(message, ResourceState):
            self._hear(message)
            return Done()
        if not isinstance(message, AssignService):
            return super().on_message(message, sender)
        later = Later()
        self.spawn(self._assign(message, later))
        return later

    def _security(self, url: str) -> Security:
        return security_of(self.context, self._config, "order", url)

    async def _assign(self, message: AssignService, later: Later) -> None:
        inputs = tuple(Parameter(one.name, one.type, one.value) for one in message.inputs)
        where = wanted(message.service, inputs, self._config.registry, self._config.agent)
        try:
            if where.resource or where.registry:
                later.reply(await self._from_outside(message, where))
            else:
                later.reply(await self._from_plant(message))
        except ServiceFault as fault:
            code = "NoCommunication" if fault.failure is Failure.UNREACHABLE else "NotPermitted"
            later.reply(Refusal(code, fault.reason))
        except ConfigError as error:
            later.reply(Refusal("NotPermitted", str(error)))

    async def _from_outside(self, message: AssignService, where: Wanted) -> Message:
        """The order names it, or a registry does."""
        url = await self._assigner.resource_for(message.service, where)
        fixed = bool(where.resource)
        why = (
            "the order names it" if fixed else f"chosen by {'agent ' + where.agent if where.agent else where.registry}"
        )
        resource = self._by_url.get(normal_url(url))
        if resource is None:
            resource = f"resource/{OTHERS}"
            if not self._config.others:
                known = ", ".join(self._by_url) or "none"
                reason = f"{url} is no [resource] of the plant file ({known}), and order.others is not set"
                raise ServiceFault(Failure.REJECTED, reason)
        if resource in message.exclude and resource != f"resource/{OTHERS}":
            raise ServiceFault(
                Failure.REJECTED, f"{resource} could not be reached, and {where.registry} knows no other"
            )
        return ServiceAssigned(resource, url, why, fixed)

    async def _from_plant(self, message: AssignService) -> Message:
        if not self._by_url:
            reason = f"no resource for {message.service}: the order names none, and the plant file no registry"
            raise ServiceFault(Failure.REJECTED, reason)
        await self._refresh()
        now_ns = self.clock.mono_ns()
        candidates: list[Candidate] = []
        self._recent = {uuid: one for uuid, one in self._recent.items() if now_ns - one[1] < FRESH_NS}
        for url, name in self._by_url.items():
            state_of = self._states.get(name)
            extra = sum(one[0] == name for one in self._recent.values())
            if state_of is None:
                candidates.append(Candidate(name, url, False, (), 0))
                continue
            load = state_of.load + extra
            candidates.append(Candidate(name, state_of.url, state_of.connected, state_of.services, load))
        found, why = chosen(message.service, candidates, message.avoid, message.exclude)
        self._recent[message.service_uuid] = (found.name, now_ns)
        return ServiceAssigned(found.name, found.url, why, False)

    async def _refresh(self) -> None:
        """Ask resources that were silent how they stand."""
        now_ns = self.clock.mono_ns()
        silent = [name for name in self._by_url.values() if now_ns - self._heard_ns.get(name, 0) > STATES_NS]
        if silent:
            await asyncio.gather(*(self._ask_state(name) for name in silent))

    def _hear(self, state: ResourceState) -> None:
        self._states[state.name] = state
        self._heard_ns[state.name] = self.clock.mono_ns()
        for uuid in state.calls:
            self._recent.pop(uuid, None)

    async def _ask_state(self, name: str) -> None:
        answer: asyncio.Future[Outcome] = self.loop.create_future()
        self.ask(name, GetResource(), partial(_settle, answer), ASK_LIMIT_S)
        outcome = await answer
        if isinstance(outcome, ResourceState):
            self._hear(outcome)
        elif name in self._states:  # what it offers is known; whether it can be reached is not
            known = self._states[name]
            self._states[name] = ResourceState(
                known.name, known.url, False, "", known.services, known.load, (), "the actor does not answer"
            )


def _settle(answer: asyncio.Future[Outcome], outcome: Outcome) -> None:
    if not answer.done():
        answer.set_result(outcome)
