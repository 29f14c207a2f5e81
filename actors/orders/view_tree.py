"""The tasks of one order and their variables, as nodes of a server. A view of the order and never its source."""

from __future__ import annotations

import asyncio
import json
import logging
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, final

from asyncua import ua
from asyncua.common.node import Node
from asyncua.ua.object_ids import ObjectIds

from tagwerk.actors.orders.logic.pfdl.model import STRING, Type
from tagwerk.actors.orders.logic.pfdl.talk import (
    Command,
    Parameter,
    ServiceEnded,
    ServiceFinished,
    ServiceStarted,
    TaskFailed,
    TaskFinished,
    TaskStarted,
)
from tagwerk.actors.orders.logic.pfdl.values import type_of
from tagwerk.actors.orders.logic.services import ServiceFault
from tagwerk.actors.orders.view_server import BYTES_LIMIT, TASKS_LIMIT, ViewServer
from tagwerk.actors.orders.view_session import size_of
from tagwerk.actors.orders.view_types import OrderTypes
from tagwerk.protocols.order_feed import TaskPicture

INITIAL: Final = "Initial"
IN_PROGRESS: Final = "ExecutionInProgess"
COMPLETED: Final = "ExecutionCompleted"
READY: Final = "ReadyForExecution"
VARIABLES_LIMIT: Final = 1_000
"""Of one task."""
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Variable:
    """A variable that is shown. `size`: about how many bytes its value takes."""

    node: Node
    type: Type
    value: Any
    size: int


@dataclass(slots=True)
class _Task:
    """A task that is shown. `below`: those that it called."""

    node: Node
    parent: Node
    context_uuid: str
    state: str
    state_node: Node
    variables: dict[str, _Variable] = field(default_factory=dict[str, _Variable])
    below: dict[str, None] = field(default_factory=dict[str, None])


@final
class OrderTree:
    """One order.

    Args:
        space: The server.
        types: The order's.
        order_id: "" if there is no other order.
    """

    def __init__(self, space: ViewServer, types: OrderTypes, order_id: str = "") -> None:
        self._space = space
        self._order_id = order_id
        self.types: Final = types
        self._tasks: dict[str, _Task] = {}
        self._labels: dict[str, Node] = {}
        self._words: dict[str, str] = {}
        self._complete = True

    async def take(self, command: Command) -> None:
        """Show what happened."""
        if isinstance(command, TaskStarted):
            await self._begin(command.task_uuid, command.name, command.context_uuid)
            await self._show(command.task_uuid, command.inputs)
        elif isinstance(command, ServiceStarted):
            await self._state(command.context_uuid, IN_PROGRESS)
        elif isinstance(command, ServiceFinished):
            await self._state(command.context_uuid, COMPLETED)
            await self._state(command.context_uuid, READY)
            await self._show(command.context_uuid, command.outputs)
        elif isinstance(command, ServiceEnded):
            if not command.running:
                await self._state(command.context_uuid, COMPLETED)
            await self._state(command.context_uuid, READY)
        elif isinstance(command, TaskFinished):
            if command.task_uuid != command.context_uuid:
                await self._show(command.context_uuid, command.outputs)
                await self._end(command.task_uuid)
        elif isinstance(command, TaskFailed) and command.task_uuid != command.context_uuid:
            await self._end(command.task_uuid)

    async def restore(self, tasks: Iterable[TaskPicture]) -> None:
        """Show these tasks and no others; what is right already is not touched, so that nobody hears of it."""
        pictures = {one.uuid: one for one in tasks}
        for uuid_ in [uuid_ for uuid_ in self._tasks if uuid_ not in pictures]:
            await self._end(uuid_)
        for one in pictures.values():
            await self._begin(one.uuid, one.name, one.context_uuid)
            await self._state(one.uuid, IN_PROGRESS if one.waits else READY if one.served else INITIAL)
            await self._show(one.uuid, [Parameter(each.name, each.type, each.value) for each in one.values])
            await asyncio.sleep(0)  # there may be thousands, and clients wait

    async def label(self, **words: str) -> None:
        """Show these properties at the first task, if the order has one."""
        first = next(iter(self._tasks.values()), None)
        if first is None or words == self._words:
            return
        self._words = words
        for key, value in words.items():
            if key in self._labels:
                await self._labels[key].write_value(value, ua.VariantType.String)
            else:
                self._labels[key] = await self._property(first.node, key, value)

    async def remove(self) -> None:
        """Show it no more."""
        for uuid_ in reversed(list(self._tasks)):
            await self._end(uuid_)
        await self._space.types.release(self.types)

    async def _begin(self, task_uuid: str, name: str, context_uuid: str) -> None:
        """Show a task below the one that called it; one that is not shown hides those that it calls."""
        space = self._space
        context = self._tasks.get(context_uuid)
        if task_uuid in self._tasks or (context is None and self._tasks):
            return
        if space.tasks >= TASKS_LIMIT:
            self._incomplete(f"{TASKS_LIMIT} tasks are shown already")
            return
        parent = space.root if context is None else context.node
        nodeid = self._nodeid(task_uuid)
        node = await space.add_object(parent, nodeid, task_uuid, space.task_type, ObjectIds.HasComponent)
        space.tasks += 1
        await self._property(node, "TaskName", name)
        state = await self._property(node, "StateVariable", INITIAL, writable=space.door.writable)
        await self._property(node, "CurrentExecution", "None", writable=space.door.writable)
        if context is not None:
            context.below[task_uuid] = None
        self._tasks[task_uuid] = _Task(node, parent, context_uuid, INITIAL, state)

    def _nodeid(self, task_uuid: str) -> ua.NodeId:
        """Give `g=<uuid>`; a dispatcher's uuid that is none, or another order's too, is told with the order's id."""
        index = ua.Int16(self._space.index)
        try:
            nodeid = ua.NodeId(uuid.UUID(task_uuid), index)  # type: ignore[arg-type]  # as asyncua reads them
        except ValueError:
            nodeid = ua.NodeId()
        if not nodeid.is_null() and self._space.is_free(nodeid):
            return nodeid
        return ua.NodeId(ua.String(f"{self._order_id}/{task_uuid}"), index)

    async def _property(self, node: Node, key: str, value: str, *, writable: bool = False) -> Node:
        space = self._space
        found = await node.add_property(space.new_id(f"{node.nodeid.to_string()}/{key}"), space.name(key), value)
        if writable:
            await found.set_writable()
        return found

    async def _state(self, task_uuid: str, state: str) -> None:
        """Show a task's state; one that is gone has none."""
        task = self._tasks.get(task_uuid)
        if task is not None and task.state != state:
            task.state = state
            await task.state_node.write_value(state, ua.VariantType.String)

    async def _show(self, task_uuid: str, values: Iterable[Parameter]) -> None:
        """Show variables of a task; one that is there already is written, so that its subscribers see it change."""
        task = self._tasks.get(task_uuid)
        if task is None:
            return
        for one in values:
            known = task.variables.get(one.name)
            type_, value, variant = self._as_shown(one)
            size = size_of(variant.Value)
            if known is not None and known.type == type_:
                if known.value != value and self._fits(size - known.size, one.name):
                    await known.node.write_value(variant)
                    known.value, known.size = value, size
                continue
            if known is not None:
                await self._space.remove(known.node, task.node, ObjectIds.HasComponent)
                self._space.bytes -= task.variables.pop(one.name).size
            if len(task.variables) >= VARIABLES_LIMIT or not self._fits(size, one.name):
                self._incomplete(f"task {task_uuid} has {VARIABLES_LIMIT} variables already")
                continue
            nodeid = self._space.new_id(f"{task.node.nodeid.to_string()}.{one.name}")
            node = await task.node.add_variable(
                nodeid, self._space.name(one.name), variant.Value, variant.VariantType, self.types.data_type(type_)
            )
            task.variables[one.name] = _Variable(node, type_, value, size)

    def _as_shown(self, one: Parameter) -> tuple[Type, Any, ua.Variant]:
        """Give a value with the type that it is shown with; what does not fit a known type is shown as JSON."""
        try:
            type_ = type_of(one.type)
            if type_ in self.types:
                return type_, one.value, self.types.variant(type_, one.value)
        except (ServiceFault, ValueError):
            pass  # another dispatcher's word, which nobody has checked
        text = json.dumps(one.value)
        return STRING, text, self.types.variant(STRING, text)

    def _fits(self, size: int, name: str) -> bool:
        if self._space.bytes + size > BYTES_LIMIT:
            self._incomplete(f"{name} takes {size} bytes, and there is no room")
            return False
        self._space.bytes += size
        return True

    def _incomplete(self, why: str) -> None:
        if self._complete:
            self._complete = False
            _log.warning("not all of order %s is shown: %s", self._order_id, why)

    async def _end(self, task_uuid: str) -> None:
        """Take a task away, with all below it."""
        task = self._tasks.pop(task_uuid, None)
        if task is None:
            return
        for below in list(task.below):
            await self._end(below)
        if task.context_uuid in self._tasks:
            self._tasks[task.context_uuid].below.pop(task_uuid, None)
        await asyncio.sleep(0)  # there may be thousands, and clients wait
        await self._space.remove(task.node, task.parent, ObjectIds.HasComponent)
        self._space.tasks -= 1
        self._space.bytes -= sum(one.size for one in task.variables.values())
        if not self._tasks:
            self._labels, self._words = {}, {}
