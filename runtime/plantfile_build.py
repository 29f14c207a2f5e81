"""From the tables of a plant file to a plant: each table alone, then what holds between them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, TypeVar, cast

import numpy as np

from tagwerk.protocols.names import actor_name_problem, name_problem
from tagwerk.runtime import plantfile_rules as rules
from tagwerk.runtime import plantfile_tables as forms
from tagwerk.runtime.memory import give_back
from tagwerk.runtime.plantfile_columns import TagColumns
from tagwerk.runtime.plantfile_findings import Findings
from tagwerk.runtime.plantfile_links import check_alarms, check_nodes, check_sources
from tagwerk.runtime.plantfile_models import (
    AlarmConfig,
    OpcuaConfig,
    OrderSection,
    PlantFile,
    TagConfig,
    resource_names,
)
from tagwerk.runtime.plantfile_orders import (
    CREW,
    check_resources,
    observer_problems,
    order_alarms,
    order_problems,
    order_tags,
    resource_problems,
)
from tagwerk.runtime.plantfile_syntax import moves
from tagwerk.runtime.plantfile_tables import Form, Problem
from tagwerk.runtime.plantfile_tags import NAME_FORM, TagReader
from tagwerk.runtime.plantfile_text import KeyPath, one_of

C = TypeVar("C")

_SECTIONS: Final = (
    "plant", "journal", "tag", "alarm", "opcua", "machine", "order", "resource", "node", "external",
    "history",
)  # fmt: skip
_LATER: Final = MappingProxyType(
    {
        "notify": "no such section: this version tells nobody by itself",
        "host": "no such section: in this version a plant runs on one host",
    }
)


def build_plant(path: Path, findings: Findings) -> PlantFile:
    """Give the plant of the tables in the findings; where something is wrong (it is noted) it holds defaults."""
    tables = findings.tables
    _refuse_unknown(findings)
    plant = findings.fill(("plant",), forms.PLANT, tables.get("plant", {}), rules.plant_problems)
    opcua_problems = partial(rules.opcua_problems, folder=path.parent)
    opcua = _named(findings, "opcua", forms.OPCUA, opcua_problems, _part_problem)
    machines = _named(findings, "machine", forms.MACHINE, rules.machine_problems, _part_problem)
    nodes = _named(findings, "node", forms.NODE, rules.node_problems, _node_problem)
    externals = _named(findings, "external", forms.EXTERNAL, rules.external_problems, _part_problem)
    order = _order(findings, path.parent)
    resource_rules = partial(resource_problems, folder=path.parent)
    resources = _named(findings, "resource", forms.RESOURCE, resource_rules, _part_problem)
    check_resources(resources, findings)
    orders = "order" in tables or bool(resources)
    owners = (CREW, *(f"resource/{name}" for name in resource_names(order, resources))) if orders else ()
    reader = TagReader(findings, opcua, machines, owners)
    reader.read_tables(_tables(findings, "tag"))
    if orders:
        reader.add_tables(order_tags(order, resources))
    for file in dict.fromkeys(plant.tag_files):
        reader.read_file(path.parent / file)
    tags = reader.tags
    alarms = _named(findings, "alarm", forms.ALARM, rules.alarm_problems, _alarm_problem)
    if orders:
        watched = {(alarm.tag, alarm.type) for alarm in alarms.values()}
        for name, table in order_alarms(resources):
            if name not in alarms and (table["tag"], "BOOL") not in watched:
                alarms[name] = AlarmConfig.model_validate(table)
    check_sources(tags, opcua, findings)
    check_alarms(alarms, tags, findings, tags_complete=reader.complete)
    result = PlantFile(
        path=path,
        plant=plant.model_copy(update={"name": plant.name or path.stem}),
        journal=findings.fill(("journal",), forms.JOURNAL, tables.get("journal", {})),
        history=findings.fill(("history",), forms.HISTORY, tables.get("history", {}), rules.history_problems),
        tags=tags,
        alarms={name: _in_area(alarm, tags) for name, alarm in alarms.items()},
        opcua=opcua,
        machines=machines,
        order=order,
        resources=resources,
        orders=orders,
        nodes=nodes,
        externals=externals,
        warnings=tuple(_warnings(tags, opcua, findings)),
    )
    check_nodes(nodes, result.actors(), findings)
    if not findings.errors:
        tags.seal()
        give_back()
    return result


def _order(findings: Findings, folder: Path) -> OrderSection:
    """Give the section `[order]` with the table in it."""
    table: Any = findings.tables.get("order", {})
    inner: Any = table.get("observer") if isinstance(table, dict) else None
    own = table if inner is None else {key: value for key, value in table.items() if key != "observer"}
    order = findings.fill(("order",), forms.ORDER, own, partial(order_problems, folder=folder))
    if inner is None:
        return order
    place = ("order", "observer")
    observer = findings.fill(place, forms.OBSERVER, inner, partial(observer_problems, folder=folder))
    return order.model_copy(update={"observer": observer})


def _refuse_unknown(findings: Findings) -> None:
    for name, table in findings.tables.items():
        if name in _LATER:
            paths: list[KeyPath] = [(name, str(each)) for each in table] if isinstance(table, dict) else []
            for path in paths or [(name,)]:
                findings.note(path, Problem((), f"[{name}] is not in this version", None, _LATER[name]))
        elif name not in _SECTIONS:
            findings.note((name,), Problem((), "unknown section", name, one_of(name, _SECTIONS)))


def _named(
    findings: Findings,
    section: str,
    form: Form[C],
    check: Callable[[C], Iterable[Problem]],
    name_check: Callable[[str], Problem | None],
) -> dict[str, C]:
    result: dict[str, C] = {}
    for name, table in _tables(findings, section):
        if problem := name_check(name):
            findings.note((section, name), problem)
        result[name] = findings.fill((section, name), form, table, check)
    return result


def _tables(findings: Findings, section: str) -> Iterator[tuple[str, object]]:
    named: Any = findings.tables.get(section, {})
    if isinstance(named, dict):
        yield from cast("dict[str, object]", named).items()
    else:
        findings.note((section,), Problem((), "it is not a table", named, f"tables: [{section}.NAME]"))


def _part_problem(name: str) -> Problem | None:
    if actor_name_problem(f"part/{name}") or name != name.lower():
        return Problem((), "the name cannot be used", name, "lower-case letters, digits and underscores")
    return None


def _node_problem(name: str) -> Problem | None:
    return None if name == "main" else Problem((), "there is one node only in this version", name, "[node.main]")


def _alarm_problem(name: str) -> Problem | None:
    return Problem((), problem, name, NAME_FORM) if (problem := name_problem(name)) else None


def _in_area(alarm: AlarmConfig, tags: Mapping[str, TagConfig]) -> AlarmConfig:
    tag = tags.get(alarm.tag)
    return alarm.model_copy(update={"area": tag.area}) if tag and tag.area and not alarm.area else alarm


def _warnings(tags: TagColumns, links: Mapping[str, OpcuaConfig], findings: Findings) -> Iterator[str]:
    risk = "by a namespace index (ns=), which may change when the server restarts; nsu=URI is safe"
    if moving := [row for row in np.flatnonzero(tags.with_node()).tolist() if moves(tags.node(row))]:
        first = tags.name(moving[0])
        yield f"{len(moving)} tags name their node {risk}; first {first} in {findings.place(('tag', first))}"
    for name, link in links.items():
        if moves(link.watchdog):
            yield f"opcua.{name}.watchdog names its node {risk}"
    acid = np.flatnonzero(tags.which(lambda tag: tag.unit == "pH"))
    if len(acid):
        yield f'the unit "pH" of {tags.name(int(acid[0]))} reads as picohenry; a pH value has no unit: leave it out'
