"""What is said to and about production orders: to `order/0`, between it and `resource/NAME`, and to `assigner/0`."""

from __future__ import annotations

from typing import Any

from tagwerk.protocols.message import Message, Record

CREW = "order/0"
"""The actor that all orders run in."""
ASSIGNER = "assigner/0"
"""The actor that finds the resource of a service."""
OTHERS = "others"
"""`resource/others` has the sessions with resources that the plant file does not name."""


class Given(Record, frozen=True):
    """A value that goes into a service or a task. `name`: of its variable or path, "" for a literal; `type`: PFDL's."""

    name: str
    type: str
    value: Any


class Asked(Record, frozen=True):
    """A value that a service is to give: its variable, and its type in PFDL."""

    name: str
    type: str


# --- operators and scripts, to order/0 ---


class StartOrder(Message, frozen=True):
    """Start an order. Answered by `OrderStarted` once it is stored, or `Refusal`.

    `inputs`: what the first task takes, by name. `priority`: services of a higher one go first on a shared resource.
    """

    name: str
    text: str
    inputs: dict[str, Any]
    priority: int
    by: str
    host: str = ""
    reason: str = ""


class OrderStarted(Message, frozen=True):
    """The order is stored and runs, whatever dies from now on."""

    id: str


class ControlOrder(Message, frozen=True):
    """`action` is `pause`, `resume`, `cancel` or `retry`. Answered by `OrderRow` or `Refusal`."""

    id: str
    action: str
    by: str
    host: str = ""
    reason: str = ""


class ResolveService(Message, frozen=True):
    """What became of a service of which nobody knows: `done`, `failed` or `retry`. Answered by `OrderRow` or `Refusal`.

    `service`: its number in the order, its uuid, or its name if only one of that name is unknown. `outputs`: what it
    gave, if it is done.
    """

    id: str
    service: str
    outcome: str
    outputs: dict[str, Any]
    by: str
    host: str = ""
    reason: str = ""


class GetOrders(Message, frozen=True):
    """The newest orders. Answered by `OrderRows`. `all`: those that have ended, too."""

    limit: int = 100
    all: bool = True


class OrderRow(Message, frozen=True):
    """An order in one line. Times: UTC, ns since 1970, 0 if not yet. Counts are of services."""

    id: str
    name: str
    state: str
    priority: int
    by: str
    started_ns: int
    ended_ns: int
    reason: str
    finished: int
    running: int
    waiting: int
    unknown: int


class OrderRows(Message, frozen=True):
    """Orders, newest first."""

    orders: tuple[OrderRow, ...]


class GetOrder(Message, frozen=True):
    """One order with its services from `after` on, by number. Answered by `OrderDetail` or `Refusal`."""

    id: str
    after: int = 0
    limit: int = 1_000


class ServiceRow(Record, frozen=True):
    """A service of an order. Times as in `OrderRow`: handed to the queue, called, ended.

    `number`: in its order, from 1. `phase`: how far it came on its resource. `why`: how that one was chosen.
    """

    number: int
    uuid: str
    name: str
    task: str
    attempt: int
    state: str
    resource: str
    url: str
    why: str
    phase: str
    started_ns: int
    queued_ns: int
    called_ns: int
    ended_ns: int
    inputs: tuple[Given, ...]
    outputs: dict[str, Any]
    reason: str


class OrderDetail(Message, frozen=True):
    """An order, some of its services, and the variables of its first task."""

    row: OrderRow
    services: tuple[ServiceRow, ...]
    variables: dict[str, Any]
    more: bool


class GetOrderLog(Message, frozen=True):
    """What happened to an order, after number `after`. Answered by `OrderLog` or `Refusal`."""

    id: str
    after: int = 0
    limit: int = 1_000


class LogEntry(Record, frozen=True):
    """One thing that happened. `by`: who did it, "" if nobody did. `uuid`: of the service or task, "" if of neither."""

    seq: int
    time_ns: int
    kind: str
    by: str
    host: str
    service: int
    what: str
    uuid: str = ""


class OrderLog(Message, frozen=True):
    """Entries in their order. `more`: there are later ones."""

    entries: tuple[LogEntry, ...]
    more: bool


# --- a dispatcher of another kind, to order/0 ---


class OpenOrder(Message, frozen=True):
    """Open an order whose dispatcher is the sender: it says what is to be done. Answered by `OrderStarted`."""

    name: str
    priority: int
    by: str
    host: str = ""
    reason: str = ""


class DispatchTask(Message, frozen=True):
    """The callbacks *task started* and *task finished*. Answered by `Done` once it is stored.

    `context_uuid`: the task that called it, itself for the first one. `values`: what it takes, or what it gives to the
    task that called it. `finished`: which of the two. If the first task is finished, the order is.
    """

    id: str
    task_uuid: str
    name: str
    context_uuid: str
    finished: bool
    values: tuple[Given, ...] = ()
    failed: str = ""


class DispatchService(Message, frozen=True):
    """The callback *service started*. Answered by `Done` once it is stored; the token comes with `GetTokens`.

    A service uuid that is known is not executed again, so the message may be repeated.
    """

    id: str
    service_uuid: str
    name: str
    context_uuid: str
    inputs: tuple[Given, ...]
    outputs: tuple[Asked, ...]
    timeout_s: float | None = None


class GetTokens(Message, frozen=True):
    """The callbacks *fire event* and *service finished*: tokens after number `after`. Answered by `Tokens`.

    The answer waits up to `wait_s` for a token. Tokens up to `after` are let go of.
    """

    id: str
    after: int
    wait_s: float = 2.0


class Token(Record, frozen=True):
    """A service has ended: with outputs, or with a reason why it gave none."""

    number: int
    service_uuid: str
    outputs: dict[str, Any]
    failed: str = ""


class Tokens(Message, frozen=True):
    """Tokens in their order, and how the order stands."""

    tokens: tuple[Token, ...]
    state: str


class ProvideParameter(Message, frozen=True):
    """The callback *provide parameter*: the value of a variable of a task. Answered by `Provided` or `Refusal`."""

    id: str
    variable: str
    task_uuid: str


class Provided(Message, frozen=True):
    """A value."""

    value: Given


# --- between order/0, assigner/0 and resource/NAME ---


class AssignService(Message, frozen=True):
    """To `assigner/0`: who is to execute this. Answered by `ServiceAssigned` or `Refusal` (NoCommunication: later).

    `avoid`: resources that failed at it before, taken only if there is no other. `exclude`: never these.
    """

    service_uuid: str
    service: str
    inputs: tuple[Given, ...]
    avoid: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()


class ServiceAssigned(Message, frozen=True):
    """`resource`: the actor's name. `fixed`: the order itself names it. `why`: in words."""

    resource: str
    url: str
    why: str
    fixed: bool


class ExecuteService(Message, frozen=True):
    """To `resource/NAME`: execute a service, once for a service uuid whatever happens. Answered by `ServiceStatus`.

    May be sent again: a known uuid is answered with how it stands. `again`: it was taken before, so that a resource
    that does not know it has lost its records, and nobody knows what came of it.
    """

    order: str
    number: int
    service_uuid: str
    task_uuid: str
    service: str
    url: str
    priority: int
    inputs: tuple[Given, ...]
    outputs: tuple[Asked, ...]
    again: bool = False


class ServiceStatus(Message, frozen=True):
    """How a service stands on its resource: an answer, and sent to `order/0` when it is called and when it has ended.

    The end is asked, again until `Done` says that it is stored. `phase`: one of `Phase`, `UNKNOWN`, or `GONE`: nothing
    is known of it. `failure`: "" of an ENDED one: it gave `outputs`. Times: UTC, ns since 1970, 0 if not yet.
    `late`: it was UNKNOWN, and then its event came after all.
    """

    order: str
    service_uuid: str
    phase: str
    outputs: dict[str, Any]
    failure: str = ""
    reason: str = ""
    queued_ns: int = 0
    called_ns: int = 0
    ended_ns: int = 0
    late: bool = False


class StopService(Message, frozen=True):
    """To `resource/NAME`: nobody waits for it any more; its place is given back. Answered by `ServiceStatus`."""

    service_uuid: str


class GetResource(Message, frozen=True):
    """To `resource/NAME`: how it stands. Answered by `ResourceState`."""


class ResourceState(Message, frozen=True):
    """`services`: what it offers, empty before it was ever reached. `calls`: uuids that wait or run, at most 1,000.

    `load`: how many wait or run, those of others in its queue included.
    """

    name: str
    url: str
    connected: bool
    state: str
    services: tuple[str, ...]
    load: int
    calls: tuple[str, ...]
    reason: str
