"""What another dispatcher tells of an order: kept in its life, and given as the commands of an interpreter."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tagwerk.actors.orders.logic.life import Life, ToldTask
from tagwerk.actors.orders.logic.pfdl.talk import (
    Command,
    Output,
    Parameter,
    ServiceStarted,
    TaskFailed,
    TaskFinished,
    TaskStarted,
)
from tagwerk.actors.orders.logic.records import ServiceTold, TaskTold
from tagwerk.protocols.order_feed import TaskPicture

DEFAULT_TASK: Final = "DefaultTask"
"""The task of services whose dispatcher tells of no task."""


def take_task(life: Life, record: TaskTold) -> Command:
    """Take the start or the end of a task."""
    uuid, name, context = record.task_uuid, record.name, record.context_uuid
    life.root = life.root or uuid
    values = tuple(Parameter(one.name, one.type, one.value) for one in record.values)
    if not record.finished:
        life.scopes[uuid] = {one.name: one for one in record.values}
        life.told[uuid] = ToldTask(name, context)
        return TaskStarted(uuid, name, context, values)
    if uuid != context:
        life.scopes.setdefault(context, {}).update({one.name: one for one in record.values})
        life.scopes.pop(uuid, None)
        life.told.pop(uuid, None)
    return (
        TaskFailed(uuid, name, context, record.failed) if record.failed else TaskFinished(uuid, name, context, values)
    )


def take_service(life: Life, record: ServiceTold) -> Iterator[Command]:
    """Take the start of a service; of no task that is known it has one of its own."""
    context = record.context_uuid
    life.root = life.root or context
    if context not in life.told:
        life.told[context] = ToldTask(DEFAULT_TASK, life.root)
        yield TaskStarted(context, DEFAULT_TASK, life.root, ())
    life.told[context] = life.told[context]._replace(served=True)
    inputs = tuple(Parameter(one.name, one.type, one.value) for one in record.inputs)
    outputs = tuple(Output(one.name, one.type) for one in record.outputs)
    yield ServiceStarted(record.service_uuid, record.name, context, inputs, outputs, record.timeout_s)


def told_tasks(life: Life) -> Iterator[TaskPicture]:
    """Give the tasks, those first that called the others."""
    at_work = {one.task_uuid for one in life.services.values()}
    for uuid, one in life.told.items():
        values = tuple(life.scopes.get(uuid, {}).values())
        yield TaskPicture(uuid, one.name, one.context_uuid, uuid in at_work, one.served, values)
