"""The sections of a plant file as typed, frozen models, each by its shape alone; rules between keys stand elsewhere."""

from __future__ import annotations

import dataclasses
import math
import shlex
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Final, Literal, TypeAlias

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    PlainValidator,
    Strict,
    Tag,
    WithJsonSchema,
    model_validator,
)
from pydantic.dataclasses import dataclass
from pydantic_core import PydanticCustomError

from tagwerk.protocols.errors import LocalProtocolError
from tagwerk.runtime.plantfile_actors import actor_names, all_needs, start_order
from tagwerk.runtime.plantfile_columns import TagColumns

# Strict, so that "5" is not a number and 1 is not true; a list of texts may come as a list.
Text: TypeAlias = Annotated[str, Strict()]
Texts: TypeAlias = tuple[Text, ...]
Whole: TypeAlias = Annotated[int, Strict()]
Flag: TypeAlias = Annotated[bool, Strict()]
Number: TypeAlias = Annotated[float, Field(strict=True, allow_inf_nan=False)]
AtLeast0: TypeAlias = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=0)]
Positive: TypeAlias = Annotated[float, Field(strict=True, allow_inf_nan=False, gt=0)]
Percent: TypeAlias = Annotated[float, Field(strict=True, allow_inf_nan=False, gt=0, le=100)]

MIB: Final = 1 << 20
SEVERITY: Final = MappingProxyType({"low": 200, "medium": 400, "high": 700, "critical": 900})
_LEASE_CYCLES: Final = 3
_LEASE_LEAST_S: Final = 2.0


def _scalar(value: object) -> object:
    if isinstance(value, (bool, int, str)) or (isinstance(value, float) and math.isfinite(value)):
        return value
    raise PydanticCustomError("scalar", "the value has a wrong type", {"expected": "a number, true, false or a text"})


def _limit(value: object) -> object:
    if isinstance(value, bool):
        return value
    if isinstance(value, (int, float)) and math.isfinite(value):
        return float(value)
    raise PydanticCustomError("limit", "the value has a wrong type", {"expected": "a finite number, or true or false"})


def _command(value: object) -> object:
    if isinstance(value, str):
        return value
    if isinstance(value, (list, tuple)) and all(isinstance(part, str) for part in value):
        return tuple(value)
    raise PydanticCustomError("command", "the value has a wrong type", {"expected": "a text, or a list of texts"})


Scalar: TypeAlias = Annotated[
    float | int | bool | str, PlainValidator(_scalar), WithJsonSchema({"type": ["number", "boolean", "string"]})
]
Limit: TypeAlias = Annotated[float | bool, PlainValidator(_limit), WithJsonSchema({"type": ["number", "boolean"]})]
Command: TypeAlias = Annotated[
    str | tuple[str, ...],
    PlainValidator(_command),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
]


class Section(BaseModel):
    """What all sections share. `sample` fills required keys that are missing or wrong, so that the rest is checked."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)
    sample: ClassVar[MappingProxyType[str, Any]] = MappingProxyType({})


class PlantSection(Section):
    """`[plant]`: the plant as a whole."""

    name: Annotated[str, Field(strict=True, max_length=100)] = Field(default="", description="default: the file's name")
    shards: Annotated[int, Field(strict=True, ge=1, le=64)] = Field(
        default=1, description="shards of the table of values"
    )
    tag_files: Texts = Field(default=(), description="CSV files of tags, relative to this file")
    group: Text = Field(default="", description="not in this version")


class JournalSection(Section):
    """`[journal]`: what an acknowledged value survives, and what happens when the disk is full."""

    sync: Literal["interval", "always"] = Field(
        default="interval", description="when the journal is forced to the disk"
    )
    sync_interval_s: Positive = Field(default=1.0, description="seconds between two syncs")
    cap_bytes: Annotated[int, Field(strict=True, ge=MIB)] = Field(
        default=1 << 30, description="most bytes of a shard's journal"
    )
    cap_pct: Percent = Field(default=80.0, description="the same as a share of its file system, percent")
    at_cap: Literal["live_only", "drop_oldest"] = Field(default="live_only", description="what happens at the cap")


@dataclass(frozen=True, slots=True, kw_only=True, config=ConfigDict(extra="forbid"))
class LogRule:
    """`log = {...}` of a tag: what of its samples history leaves out. Differences are in the tag's unit."""

    deadband: AtLeast0 | None = Field(
        default=None, description="a smaller change since the last kept sample is left out; 0: only what is equal"
    )
    max_interval_s: Positive | None = Field(default=None, description="longest time between two kept samples")
    compression_dev: Positive | None = Field(
        default=None, description="how far a sample that is left out may lie from the line between those kept"
    )


def _log_form(value: object) -> str:
    return RULE_FORM if isinstance(value, (dict, LogRule)) else FLAG_FORM


FLAG_FORM: Final = "flag"
RULE_FORM: Final = "rule"
Log: TypeAlias = Annotated[
    Annotated[Flag, Tag(FLAG_FORM)] | Annotated[LogRule, Tag(RULE_FORM)], Discriminator(_log_form)
]


@dataclass(frozen=True, slots=True, kw_only=True, config=ConfigDict(extra="forbid"))
class TagConfig:
    """`[tag."NAME"]`, or a row of a CSV file. A slotted dataclass: of 100,000 tags it saves 110 MB."""

    name: Text
    type: Literal["float", "int", "bool", "str"] = Field(default="float", description="type of the value")
    unit: Text = Field(default="", description="engineering unit, a name that pint knows")
    display_unit: Text = Field(default="", description="unit in which people see it")
    low: Number | None = Field(default=None, description="low end of the range")
    high: Number | None = Field(default=None, description="high end of the range")
    write_low: Number | None = Field(default=None, description="lowest value that may be written")
    write_high: Number | None = Field(default=None, description="highest value that may be written")
    deadband: AtLeast0 = Field(default=0.0, description="change that is worth a sample, in the unit")
    deadband_pct: Percent | None = Field(default=None, description="the same in percent of low..high")
    stale_after_s: Positive | None = Field(default=None, description="age at which the value is stale")
    hold_s: AtLeast0 = Field(default=0.0, description="how long the value stays good after its source was lost")
    source: Text = Field(default="", description="owner: an OPC UA link, a machine, or writer/NAME; none: its shard")
    node: Text = Field(default="", description="NodeId on the OPC UA server")
    writable: Flag = Field(default=False, description="whether operators and programs may write it")
    default: Scalar | None = Field(default=None, description="first value of a tag without a source")
    log: Log = Field(default=True, description="whether it goes to history, or by which rule")
    labels: Texts = Field(default=(), description="free words to select tags by")
    description: Text = Field(default="", description="what it is, in words")
    area: Text = Field(default="", description="part of the plant")


class AlarmConfig(Section):
    """`[alarm."NAME"]`."""

    sample: ClassVar[MappingProxyType[str, Any]] = MappingProxyType({"tag": "sample", "type": "HI"})

    tag: Text = Field(description="the tag that it watches")
    type: Literal["HIHI", "HI", "LO", "LOLO", "BOOL"] = Field(description="what it watches for")
    limit: Limit | None = Field(
        default=None, description="limit in the tag's unit; of a BOOL alarm the value that raises it"
    )
    deadband: AtLeast0 = Field(default=0.0, description="how far the value must come back, in the tag's unit")
    on_delay_s: AtLeast0 = Field(default=0.0, description="how long the condition must hold before the alarm is raised")
    off_delay_s: AtLeast0 = Field(default=0.0, description="how long it must be gone before the alarm is cleared")
    priority: Literal["low", "medium", "high", "critical"] = Field(default="medium", description="urgency")
    severity: Annotated[int, Field(strict=True, ge=1, le=1000)] = Field(default=400, description="default: by priority")
    latch: Flag = Field(default=False, description="whether it stays until reset")
    area: Text = Field(default="", description="part of the plant; default: the tag's")
    text: Text = Field(default="", description="what the operator reads")

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, table: Any) -> Any:
        if not isinstance(table, dict):
            return table
        implied: dict[str, Any] = {"severity": SEVERITY.get(str(table.get("priority")), SEVERITY["medium"])}
        if table.get("type") == "BOOL":
            implied["limit"] = True
        return implied | table


class OpcuaConfig(Section):
    """`[opcua.NAME]`: the link to an OPC UA server."""

    sample: ClassVar[MappingProxyType[str, Any]] = MappingProxyType({"url": "opc.tcp://sample:4840"})

    url: Text = Field(description="opc.tcp://HOST:PORT/PATH")
    security: Literal["none", "sign", "sign_and_encrypt"] = Field(default="none", description="message security")
    user: Text = Field(default="", description="user name on the server; none: anonymous")
    password_file: Text = Field(default="", description="file with the password, relative to this file")
    publish_interval_s: Positive = Field(default=0.1, description="how often the server publishes")
    sample_interval_s: AtLeast0 = Field(default=0.1, description="how often the server samples; 0: as fast as it can")
    queue_size: Annotated[int, Field(strict=True, ge=1, le=100_000)] = Field(
        default=100, description="samples kept per node"
    )
    time: Literal["source", "server", "received"] = Field(default="source", description="whose time is trusted")
    watchdog: Text = Field(default="", description="NodeId of a node that the link toggles")
    watchdog_period_s: Positive = Field(default=1.0, description="how often it toggles")


class MachineConfig(Section):
    """`[machine.NAME]`: a state machine of the plant's own code."""

    sample: ClassVar[MappingProxyType[str, Any]] = MappingProxyType({"class": "sample:Sample"})

    class_path: Text = Field(alias="class", description="module:Class")
    interval_s: Positive = Field(default=0.5, description="time between two cycles")
    mode: Literal["async", "sync"] = Field(default="async", description="a process of its own, or a shared one")
    after_restart: Literal["wait", "resume"] = Field(default="wait", description="the state after a restart")
    lease_s: Positive | None = Field(default=None, description="lease on outputs; default: 3 intervals, at least 2")
    parameters: dict[Text, Scalar] = Field(default_factory=dict, description="values of the machine's parameters")

    @property
    def effective_lease_s(self) -> float:
        """The lease on its outputs, in seconds."""
        return max(_LEASE_LEAST_S, _LEASE_CYCLES * self.interval_s) if self.lease_s is None else self.lease_s


class ObserverSection(Section):
    """`[order.observer]`: the OPC UA server in which others look at orders."""

    sample: ClassVar[MappingProxyType[str, Any]] = MappingProxyType({"url": "opc.tcp://sample:4840"})

    url: Text = Field(description="opc.tcp://HOST:PORT/PATH where it listens")
    security: Literal["none", "sign", "sign_and_encrypt"] = Field(
        default="sign_and_encrypt", description="least message security that clients need"
    )
    user: Text = Field(default="", description="user name that clients give")
    password_file: Text = Field(default="", description="file with the password, relative to this file")
    anonymous: Flag = Field(default=False, description="whether clients need no user name")
    certificate: Text = Field(default="", description="the server's certificate, PEM or DER; none: it makes one")
    key: Text = Field(default="", description="private key of the certificate, PEM or DER")
    clients: Annotated[int, Field(strict=True, ge=1, le=200)] = Field(
        default=20, description="most connections at the same time"
    )
    ended: Annotated[int, Field(strict=True, ge=0, le=200)] = Field(
        default=20, description="how many orders that have ended are still shown"
    )


class OrderSection(Section):
    """`[order]`: production orders as a whole."""

    registry: Text = Field(default="", description="URL of a device registry; none: the resources of this file")
    agent: Text = Field(default="", description="URL of an assignment agent, which chooses among those of the registry")
    custom_url: Text = Field(default="", description="prefix; with the port of an assigned resource it makes its URL")
    others: Flag = Field(default=False, description="whether orders may use resources that this file does not name")
    assign_wait_s: AtLeast0 = Field(default=60.0, description="how long a resource is looked for that is not there")
    slots: Annotated[int, Field(strict=True, ge=0, le=100)] = Field(
        default=8, description="how many orders have tags of their own, order.slotN.*"
    )
    keep_days: Positive | None = Field(default=None, description="age at which ended orders are removed; none: never")
    security: Literal["none", "sign", "sign_and_encrypt"] = Field(
        default="none", description="message security to registry, agent and other resources"
    )
    user: Text = Field(default="", description="user name there; none: anonymous")
    password_file: Text = Field(default="", description="file with the password, relative to this file")
    dashboard: Text = Field(default="", description="http://HOST:PORT of a dashboard that is told of all orders")
    observer: ObserverSection | None = Field(default=None, description="the table [order.observer]")


class ResourceConfig(Section):
    """`[resource.NAME]`: an OPC UA server that executes services of orders."""

    sample: ClassVar[MappingProxyType[str, Any]] = MappingProxyType({"url": "opc.tcp://sample:4840"})

    url: Text = Field(description="opc.tcp://HOST:PORT/PATH")
    security: Literal["none", "sign", "sign_and_encrypt"] = Field(default="none", description="message security")
    user: Text = Field(default="", description="user name on the server; none: anonymous")
    password_file: Text = Field(default="", description="file with the password, relative to this file")
    places: Annotated[int, Field(strict=True, ge=1, le=100)] = Field(
        default=2, description="most elements of ours in its queue; the rest waits here, by priority"
    )
    connect_s: Positive = Field(default=10.0, description="how long a session is tried for before a service fails")
    idle_s: Positive = Field(default=60.0, description="how long it may stay not IDLE when we lead its queue")
    gap_s: AtLeast0 = Field(
        default=10.0,
        description="how long, beyond its duration, the end of a service is waited for over a lost session",
    )
    linger_s: AtLeast0 = Field(default=30.0, description="how long the end of a cancelled service is waited for")
    stuck_after_s: Positive = Field(default=120.0, description="standstill of queue or AssetState that is an alarm")


class NodeConfig(Section):
    """`[node.main]`: the supervisor of the actors."""

    actors: Texts = Field(default=("*",), description="globs of the actors that it runs")
    needs: dict[Text, Texts] = Field(default_factory=dict, description="actor = actors that must be ready before it")
    hang_after_s: Positive | None = Field(default=None, description="silence after which an actor is restarted")
    restarts: Annotated[int, Field(strict=True, ge=1, le=1000)] = Field(
        default=5, description="restarts allowed per period"
    )
    period_s: Positive = Field(default=30.0, description="the period")
    memory_limit_bytes: Annotated[int, Field(strict=True, ge=16 * MIB)] | None = Field(
        default=None, description="resident memory at which an actor is restarted"
    )
    cpu_limit_pct: Positive | None = Field(
        default=None, description="CPU time over a whole period at which an actor is restarted; 100 is one core"
    )


class ExternalConfig(Section):
    """`[external.NAME]`: a program that the node starts and keeps alive."""

    sample: ClassVar[MappingProxyType[str, Any]] = MappingProxyType({"command": "sample"})

    command: Command = Field(description="program and arguments; there is no shell")
    env: dict[Text, Text] = Field(default_factory=dict, description="more environment variables")

    @property
    def argv(self) -> tuple[str, ...]:
        """The program and its arguments, split as a shell would."""
        return tuple(shlex.split(self.command)) if isinstance(self.command, str) else self.command


class HistorySection(Section):
    """`[history]`: where and how long history is kept, and how full the disk may get."""

    store: Text = Field(default="", description="postgresql://... for a database; none: files in the plant's home")
    layout: Literal["chunks", "rows"] = Field(default="chunks", description="how a database keeps it")

    retention_days: Positive | None = Field(default=None, description="age at which history is removed; none: never")
    disk_warn_pct: Percent = Field(default=80.0, description="how full the disk may be before an alarm")
    disk_stop_pct: Percent = Field(default=95.0, description="how full it may be before history stops")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PlantFile:
    """A plant file that is sound: what stands in it, defaults filled in. Mappings are in file order.

    `orders`: whether it runs production orders.
    """

    path: Path
    plant: PlantSection = dataclasses.field(default_factory=PlantSection)
    journal: JournalSection = dataclasses.field(default_factory=JournalSection)
    history: HistorySection = dataclasses.field(default_factory=HistorySection)
    tags: TagColumns = dataclasses.field(default_factory=TagColumns)
    alarms: dict[str, AlarmConfig] = dataclasses.field(default_factory=dict[str, AlarmConfig])
    opcua: dict[str, OpcuaConfig] = dataclasses.field(default_factory=dict[str, OpcuaConfig])
    machines: dict[str, MachineConfig] = dataclasses.field(default_factory=dict[str, MachineConfig])
    order: OrderSection = dataclasses.field(default_factory=OrderSection)
    resources: dict[str, ResourceConfig] = dataclasses.field(default_factory=dict[str, ResourceConfig])
    orders: bool = False
    nodes: dict[str, NodeConfig] = dataclasses.field(default_factory=dict[str, NodeConfig])
    externals: dict[str, ExternalConfig] = dataclasses.field(default_factory=dict[str, ExternalConfig])
    warnings: tuple[str, ...] = ()

    @property
    def node(self) -> NodeConfig:
        """The section `[node.main]`, or its defaults."""
        return self.nodes.get("main") or NodeConfig()

    def actors(self) -> tuple[str, ...]:
        """Give the names of all actors, in the order in which they start."""
        return start_order(self._needs())

    def depends(self, actor: str) -> tuple[str, ...]:
        """Give the actors that must be ready before this one starts.

        Raises:
            LocalProtocolError: The plant has no such actor.
        """
        try:
            return self._needs()[actor]
        except KeyError as error:
            raise LocalProtocolError(f"the plant file has no actor {actor}") from error

    def _needs(self) -> dict[str, tuple[str, ...]]:
        names = actor_names(self.plant.shards, self.externals, self.opcua, self.machines, self._order_actors())
        return all_needs(names, self.node.needs)

    def _order_actors(self) -> tuple[str, ...]:
        if not self.orders:
            return ()
        observer = ("observer/0",) if self.order.observer is not None or self.order.dashboard else ()
        names = resource_names(self.order, self.resources)
        return (*(f"resource/{name}" for name in names), "assigner/0", "order/0", *observer)


def resource_names(order: OrderSection, resources: dict[str, ResourceConfig]) -> tuple[str, ...]:
    """Give the names of all resource actors: those of the file, and the one for all others."""
    return (*resources, *(("others",) if order.others else ()))


class PlantTables(BaseModel):
    """The whole file, for its JSON schema."""

    model_config = ConfigDict(extra="forbid", title="tagwerk plant file")

    plant: PlantSection = PlantSection()
    journal: JournalSection = JournalSection()
    history: HistorySection = HistorySection()
    tag: dict[str, TagConfig] = {}
    alarm: dict[str, AlarmConfig] = {}
    opcua: dict[str, OpcuaConfig] = {}
    machine: dict[str, MachineConfig] = {}
    order: OrderSection = OrderSection()
    resource: dict[str, ResourceConfig] = {}
    node: dict[Literal["main"], NodeConfig] = {}
    external: dict[str, ExternalConfig] = {}
