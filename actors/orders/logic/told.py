"""What another dispatcher tells of an order, as the commands that an interpreter would have given."""

from __future__ import annotations

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


def task_command(record: TaskTold) -> Command:
    """Give the start or the end of a task."""
    uuid, name, context = record.task_uuid, record.name, record.context_uuid
    if record.finished and record.failed:
        return TaskFailed(uuid, name, context, record.failed)
    values = tuple(Parameter(one.name, one.type, one.value) for one in record.values)
    return (TaskFinished if record.finished else TaskStarted)(uuid, name, context, values)


def service_command(record: ServiceTold) -> Command:
    """Give the start of a service."""
    inputs = tuple(Parameter(one.name, one.type, one.value) for one in record.inputs)
    outputs = tuple(Output(one.name, one.type) for one in record.outputs)
    return ServiceStarted(
        record.service_uuid, record.name, record.context_uuid, inputs, outputs, record.timeout_s
    )  # fmt: skip
