"""Finds the resource for a service: the one that the order names, or one of a device registry's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, final

from asyncua import ua
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.object_ids import ObjectIds

from tagwerk.actors.orders.logic.assignment import Wanted, least_loaded, with_prefix, with_scheme, without_scheme
from tagwerk.actors.orders.logic.services import Failure, ServiceFault
from tagwerk.actors.orders.session import Session, nodeid, value_of
from tagwerk.protocols.errors import DeviceGone, NotSent, Refused, RemoteProtocolError, Unknown
from tagwerk.runtime.ua_security import Security

MODULE_PARTS: Final = frozenset(("Queue", "State", "Capabilities"))


@final
class Assigner:
    """Asks registries and agents, over one session with each.

    Args:
        custom_url: A prefix for the URLs that they give; "" leaves them.
        security: How channels are opened, by URL; None: without security.
    """

    def __init__(self, custom_url: str = "", security: Callable[[str], Security] | None = None) -> None:
        self._custom_url = custom_url
        self._security = security
        self._sessions: dict[str, Session] = {}
        self._mirrors: dict[tuple[Session, str], tuple[str, ua.NodeId | None]] = {}
        self._opening = asyncio.Lock()

    async def resource_for(self, service: str, where: Wanted) -> str:
        """Give the URL of the resource that is to execute a service.

        Raises:
            ServiceFault: There is none.
        """
        if where.resource:
            return with_scheme(where.resource)
        if not where.registry:
            reason = f"no resource for {service}: the order names none, and the engine knows no device registry"
            raise ServiceFault(Failure.REJECTED, reason)
        try:
            agents = await self._agents(service, where)
            if where.agent:
                url = await self._ask_agent(where, agents)
            else:
                url = least_loaded([await self._load_of(where.registry, one) for one in agents])
        except (DeviceGone, NotSent, Unknown) as error:  # asking again does no harm: nothing was begun
            raise ServiceFault(Failure.UNREACHABLE, f"no resource for {service}: {error}") from error
        except (Refused, RemoteProtocolError) as error:
            raise ServiceFault(Failure.REJECTED, f"no resource for {service}: {error}") from error
        return with_prefix(with_scheme(url), self._custom_url)

    async def close(self) -> None:
        """End all sessions."""
        await asyncio.gather(*(one.close() for one in self._sessions.values()))
        self._sessions.clear()

    async def _agents(self, service: str, where: Wanted) -> list[ua.NodeId]:
        """Give the agents of a registry that can do the service, as nodes of the registry."""
        session = await self._session(where.registry)
        parent = await session.below(nodeid(ObjectIds.ObjectsFolder), "AgentList", "PFDLServiceAgents")
        method = await session.below(parent, "Filter_Agents")
        names, values = where.filter()
        given = [ua.Variant(service), ua.Variant(names), ua.Variant(values)]
        answer = await session.call(parent, method, given)
        found = answer[0].Value if answer else None
        if not isinstance(found, list) or not found:
            reason = f"{where.registry} knows no resource for {service}"
            raise ServiceFault(Failure.REJECTED, reason + _told(where))
        return found

    async def _ask_agent(self, where: Wanted, agents: list[ua.NodeId]) -> str:
        session = await self._session(where.agent)
        services = await session.below(nodeid(ObjectIds.ObjectsFolder), "AssignmentModule", "Services")
        method = await session.below(services, "assign_service")
        registry = ua.Variant(without_scheme(where.registry))
        answer = await session.call(services, method, [registry, ua.Variant(agents, ua.VariantType.NodeId)])
        url = answer[0].Value if answer else None
        if not isinstance(url, str) or not url:
            raise ServiceFault(Failure.REJECTED, f"the assignment agent {where.agent} chose no resource")
        return url

    async def _load_of(self, registry: str, agent: ua.NodeId) -> tuple[str, int]:
        """Give an agent's URL, and how many stand in its queue as the registry mirrors it."""
        session = await self._session(registry)
        key = (session, agent.to_string())
        if key not in self._mirrors:
            self._mirrors[key] = await self._mirror_of(session, agent)
        url, variable = self._mirrors[key]
        queue = value_of((await session.read([variable]))[0]) if variable is not None else None
        # An empty queue is one empty element, or nothing at all; else it is an array.
        return url, len(queue) if isinstance(queue, list) else 0

    async def _mirror_of(self, session: Session, agent: ua.NodeId) -> tuple[str, ua.NodeId | None]:
        """Find an agent's URL and the variable that mirrors its queue."""
        name = value_of((await session.read([agent], AttributeIds.BrowseName))[0])
        if name is None:
            raise RemoteProtocolError(f"{session.url} gives an agent without a name")
        for one in (await session.children(agent)).values():
            parts = await session.children(one.NodeId)
            if set(parts) >= MODULE_PARTS:
                return str(name.Name), await session.below(parts["Queue"].NodeId, "ServiceQueue", "queue_variable")
        return str(name.Name), None

    async def _session(self, url: str) -> Session:
        url = with_scheme(url)
        async with self._opening:
            session = self._sessions.get(url)
            if session is None or session.over:
                if session is not None:
                    self._mirrors = {key: found for key, found in self._mirrors.items() if key[0] is not session}
                    await session.close()
                session = self._sessions[url] = Session(url, security=self._security(url) if self._security else None)
                await session.open()
            return session


def _told(where: Wanted) -> str:
    return f" with {', '.join(f'{name} = {value}' for name, value in where.capabilities)}" if where.capabilities else ""
