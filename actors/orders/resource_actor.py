"""The actor `resource/NAME`: one long-lived session with a resource server, and the services that it executes.

`resource/others` has the sessions with servers that the plant file does not name, if it allows such.
"""

from __future__ import annotations

import asyncio
import socket
from functools import partial
from typing import TYPE_CHECKING, Any, Final, final

from tagwerk.actors.orders.access import queue_name, security_of
from tagwerk.actors.orders.call import Patience
from tagwerk.actors.orders.call_store import FILE, CallStore
from tagwerk.actors.orders.engine import lives
from tagwerk.actors.orders.logic.queues import OURS, Element, Seen, left_behind, state_name
from tagwerk.actors.orders.logic.services import ServiceFault
from tagwerk.actors.orders.logic.stuck import Watchman
from tagwerk.actors.orders.resource import Resource
from tagwerk.actors.orders.session import quiet_asyncua
from tagwerk.actors.orders.site import Site
from tagwerk.actors.orders.tag_sheet import TagSheet
from tagwerk.actors.orders.ua_endpoint import UaEndpoint
from tagwerk.protocols.errors import ConfigError, DeviceGone, Refused, RemoteProtocolError
from tagwerk.protocols.message import Done, Message, Refusal
from tagwerk.protocols.orders import (
    ASSIGNER,
    CREW,
    OTHERS,
    ExecuteService,
    GetResource,
    ResourceState,
    ServiceStatus,
    StopService,
)
from tagwerk.runtime import levels
from tagwerk.runtime.actor import AsyncActor, Later, Sender
from tagwerk.runtime.home import RESTORED
from tagwerk.runtime.plantfile_models import OrderSection, ResourceConfig

if TYPE_CHECKING:
    from tagwerk.actors.orders.endpoint import Endpoint
    from tagwerk.runtime.context import ActorContext
    from tagwerk.runtime.control import Outcome

LOOK_S: Final = 1.0
"""Without a change the resource is looked at so often."""
LEAST_LOOK_S: Final = 0.2
"""Not more often than this: each look is a message on the session that the calls use."""
AGAIN_S: Final = 0.5
"""So soon `order/0` is told once more of an end that it has not stored."""
ASK_LIMIT_S: Final = 5.0
FORGET_NS: Final = 3_600_000_000_000
"""A call that has ended and was told is known for so long: a message about it may still be on its way."""
CALLS_SHOWN: Final = 1_000
OTHERS_LIMIT: Final = 100
"""Servers that `resource/others` has sessions with."""
LEAVE_LIMIT_S: Final = 1.0
SHOW_S: Final = 1.0
"""So often the assigner is told how it stands, whether that has changed or not."""
SOON_S: Final = 0.1
"""So soon after a change tags follow it."""


@final
class ResourceActor(AsyncActor):
    """See the module."""

    def __init__(self, context: ActorContext) -> None:
        super().__init__(context)
        self._name = self.name.partition("/")[2]
        self._sites: dict[str, Site] = {}
        self._seen: Seen | None = None
        self._services: tuple[str, ...] = ()
        self._reason = "not connected yet"
        self._connected = False
        self._stuck = ""
        self._pushed = (False, 0)
        self._shows = False

    def on_start(self) -> None:
        """Take up the calls that a process before this one had, then connect.

        Raises:
            ConfigError: The plant file or a file it names is wrong.
        """
        quiet_asyncua()
        self._config = self._own_config()
        self._plant = queue_name(self.context)
        self._store = CallStore(self.context.home.actor_data(self.name) / FILE)
        self._sheet = TagSheet(self)
        after_s = self._config.stuck_after_s if isinstance(self._config, ResourceConfig) else 0.0
        self._watchman = Watchman(after_s)
        self._after_restore()
        for kept in self._store.open_calls():
            self._site(kept.request.url).restore(kept)
        for site in self._sites.values():
            site.start()
        if isinstance(self._config, ResourceConfig):
            self.spawn(self._watch(self._site(self._config.url)))
        self.every(SHOW_S, self._show_and_push)
        self._show_soon()
        self.ready()

    def _after_restore(self) -> None:
        """What a backup holds as not ended may have been executed since: nobody knows, and nothing is called."""
        marker = self.context.home.actor_data(self.name) / RESTORED
        if not marker.exists():
            return
        reason = "the plant was restored from a backup: whether it was executed since is not known"
        for kept in self._store.open_calls():
            if kept.outcome is None:
                asked = kept.request
                status = ServiceStatus(asked.order, asked.service_uuid, "UNKNOWN", {}, "", reason)
                self._store.settle(status, released=False)
        marker.unlink()

    async def on_stop_async(self) -> None:
        """Leave the queues; what was called goes on, and is taken up by the next process."""
        await asyncio.gather(*(site.leave(LEAVE_LIMIT_S) for site in self._sites.values()))
        self._sheet.goodbye()
        self._store.close()

    def on_flush(self) -> None:
        """Tell the assigner of a line that grew or shrank, so that it need not ask when it is in a hurry."""
        if self._burden() != self._pushed:
            self._push()

    def _burden(self) -> tuple[bool, int]:
        """What an assignment depends on: whether it is connected, and how many wait or run there."""
        ours = sum(len(site.uuids) for site in self._sites.values())
        queue = self._seen.queue if self._seen else ()
        name = f"{OURS}:{self._plant}:"  # what was seen may be a moment old: ours are known better than by it
        return self._connected, ours + sum(not one.client.startswith(name) for one in queue)

    def _push(self) -> None:
        self._pushed = self._burden()
        if isinstance(self._config, ResourceConfig):
            self.ask(ASSIGNER, self._state(), _nothing, ASK_LIMIT_S)

    def on_message(self, message: Message, sender: Sender) -> Message | Later | None:
        """`ExecuteService`, `StopService`, `GetResource`."""
        if isinstance(message, ExecuteService):
            return self._execute(message)
        if isinstance(message, StopService):
            return self._stop_service(message.service_uuid)
        return self._state() if isinstance(message, GetResource) else super().on_message(message, sender)

    # --- calls ---

    def _execute(self, message: ExecuteService) -> Message:
        kept = self._store.find(message.service_uuid)
        if kept is not None:
            if kept.request.order != message.order:
                reason = f"the uuid {message.service_uuid} is that of a service of {kept.request.order}: give another"
                return Refusal("Conflict", reason)
            site = self._site(kept.request.url)
            return site.status(message.service_uuid) or kept.outcome or self._gone(message, "it has ended")
        if message.again:
            return self._gone(message, f"{self.name} has lost its records of it", "UNKNOWN")
        if isinstance(self._config, OrderSection) and len(self._sites) >= OTHERS_LIMIT:
            return Refusal("Conflict", f"{self.name} has sessions with {OTHERS_LIMIT} servers already")
        number = self._store.take(message)
        return self._site(message.url).take(message, number)

    def _stop_service(self, uuid: str) -> Message:
        kept = self._store.find(uuid)
        if kept is None:
            return ServiceStatus("", uuid, "GONE", {})
        status = self._site(kept.request.url).stop(uuid)
        return status or kept.outcome or ServiceStatus(kept.request.order, uuid, "GONE", {})

    @staticmethod
    def _gone(message: ExecuteService, reason: str, phase: str = "GONE") -> ServiceStatus:
        return ServiceStatus(message.order, message.service_uuid, phase, {}, "", reason)

    def _tell(self, status: ServiceStatus) -> None:
        """Say how a call stands; its end is said again until it is stored."""
        self._show_soon()
        then = partial(self._told, status) if status.phase in ("ENDED", "UNKNOWN") else _nothing
        self.ask(CREW, status, then, ASK_LIMIT_S)

    def _told(self, status: ServiceStatus, outcome: Outcome) -> None:
        kept = self._store.find(status.service_uuid)
        if kept is None or kept.outcome is None or kept.outcome.phase != status.phase:
            return  # it came to something else meanwhile, which is told by itself
        if not isinstance(outcome, Done):
            self.after(AGAIN_S, partial(self._tell, status))
            return
        now_ns = self.clock.now_ns()
        self._store.told(status.service_uuid, now_ns, now_ns - FORGET_NS)
        self._site(kept.request.url).told(status.service_uuid)

    # --- servers ---

    def _own_config(self) -> ResourceConfig | OrderSection:
        plant = self.context.plant
        if self._name == OTHERS and plant.order.others:
            return plant.order
        if self._name not in plant.resources:
            raise ConfigError("no such resource", file=str(plant.path), key=f"resource.{self._name}")
        return plant.resources[self._name]

    def _site(self, url: str) -> Site:
        config = self._config
        if isinstance(config, ResourceConfig):
            url = config.url  # its name is what an order's records hold: it may have moved meanwhile
        if url not in self._sites:
            named = config if isinstance(config, ResourceConfig) else ResourceConfig(url=url)
            key = f"resource.{self._name}" if named is config else "order"
            security = security_of(self.context, config, key, url)
            patience = Patience(
                connect_s=named.connect_s, idle_s=named.idle_s, gap_s=named.gap_s, linger_s=named.linger_s
            )

            def make(to: str) -> Endpoint:
                return UaEndpoint(to, security)

            resource = Resource(url, make, patience, partial(self._left_behind, url), holds=True)
            self._sites[url] = Site(
                resource, self._store, self._plant, named.places, self.clock, self.spawn, self._tell
            )
        return self._sites[url]

    def _left_behind(self, url: str, queue: tuple[Element, ...]) -> list[Element]:
        """Find elements of this plant that no call belongs to, and those of engines on this host that are dead."""
        site = self._sites[url]
        ours = [
            one for one in queue
            if one.client.startswith(f"{OURS}:{self._plant}:") and not site.holds(one.client, one.service_uuid)
        ]  # fmt: skip
        return ours + left_behind(queue, socket.gethostname(), lives)

    # --- how it stands ---

    async def _watch(self, site: Site) -> None:
        """Keep the session open, and see how the resource stands."""
        while True:
            try:
                seen = await site.resource.look()
                if not self._connected:
                    self._services = await site.resource.services()
                    self._connection(True, "")
                self._look(site, seen)
                if self._left_behind(site.resource.url, seen.queue):
                    await site.resource.keeper.sweep()
                await asyncio.sleep(LEAST_LOOK_S)
                await site.resource.keeper.changed(seen, LOOK_S)
            except (ServiceFault, DeviceGone, Refused, RemoteProtocolError) as error:
                self._connection(False, str(error))
                await asyncio.sleep(LOOK_S)

    def _connection(self, connected: bool, reason: str) -> None:
        if connected != self._connected or reason != self._reason:
            self.log.info("%s", "connected" if connected else f"not connected: {reason}")
        self._connected, self._reason = connected, reason
        if not connected:
            self._seen = None
        self._show_soon()
        level = levels.LINK_UP if connected else levels.LINK_DOWN
        self.context.slot.write_counter(levels.LINK_COUNTER, level)

    def _look(self, site: Site, seen: Seen) -> None:
        if self._seen is None or seen[:2] != self._seen[:2]:
            self._show_soon()
        self._seen = seen
        ours = frozenset((*(one.service_uuid for one in site.executing), *(one.service_uuid for one in site.in_doubt)))
        stuck = self._watchman.look(seen, ours, self.clock.mono_ns())
        if stuck != self._stuck:
            self._stuck = stuck
            self._show_soon()
            self.log.warning("%s", stuck or "it moves again")

    def _show_soon(self) -> None:
        if not self._shows:
            self._shows = True
            self.after(SOON_S, self._show)

    def _show_and_push(self) -> None:
        self._show()
        self._push()

    def _show(self) -> None:
        self._shows = False
        sites = list(self._sites.values())
        executing = [one for site in sites for one in site.executing]
        moving = next((site.may_move for site in sites if site.may_move), "")
        seen, sheet, head = self._seen, self._sheet, f"resource.{self._name}."
        values: dict[str, Any] = {
            "connected": self._connected,
            "state": state_name(seen.state) if seen else "",
            "queue": len(seen.queue) if seen else 0,
            "waiting": sum(site.waiting for site in sites),
            "order": ", ".join(one.order for one in executing),
            "service": ", ".join(one.service for one in executing),
            "stuck": bool(self._stuck),
            "may_move": bool(moving),
            "reason": moving or self._stuck or ("" if self._connected or self._name == OTHERS else self._reason),
        }
        for key, value in values.items():
            sheet.put(head + key, value)
        if not sheet.flush():
            self._show_soon()

    def _state(self) -> ResourceState:
        uuids = [uuid for site in self._sites.values() for uuid in site.uuids]
        url = self._config.url if isinstance(self._config, ResourceConfig) else ""
        return ResourceState(
            self.name, url, self._connected, state_name(self._seen.state) if self._seen else "", self._services,
            self._burden()[1], tuple(uuids[:CALLS_SHOWN]), self._stuck or self._reason,
        )  # fmt: skip


def _nothing(_outcome: Outcome) -> None:
    """What is said again anyway may be lost."""
