"""Rules between tables: alarms and their tags, tags and their sources, nodes and their actors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Final

import numpy as np

from tagwerk.protocols.names import compile_globs, glob_problem
from tagwerk.runtime.plantfile_actors import all_needs, circles
from tagwerk.runtime.plantfile_columns import TagColumns
from tagwerk.runtime.plantfile_findings import Findings
from tagwerk.runtime.plantfile_models import AlarmConfig, NodeConfig, TagConfig
from tagwerk.runtime.plantfile_syntax import node_id_problem
from tagwerk.runtime.plantfile_tables import Problem
from tagwerk.runtime.plantfile_text import near, one_of

_FEW: Final = 2000  # tags among which a near name is looked for: it takes 10 us a tag
_ORDER: Final = ("LOLO", "LO", "HI", "HIHI")  # limits of one tag rise strictly in this order


def check_alarms(
    alarms: Mapping[str, AlarmConfig], tags: Mapping[str, TagConfig], findings: Findings, *, tags_complete: bool
) -> None:
    """Note what is wrong between alarms and their tags.

    Args:
        alarms: All alarms, the wrong ones too.
        tags: All tags, the wrong ones too.
        findings: Where it is noted.
        tags_complete: Whether all tags could be read; if not, an unknown tag may be among those.
    """
    by_tag: dict[str, dict[str, str]] = {}  # tag -> type -> alarm
    for name, alarm in alarms.items():
        table, wrong = ("alarm", name), findings.bad.get(("alarm", name), frozenset())
        tag = tags.get(alarm.tag)
        if tag is None:
            message = "there is no such tag" if tags_complete else "there is no such tag in the files that can be read"
            findings.add(table, Problem(("tag",), message, alarm.tag, _tag_hint(alarm.tag, tags)))
            continue
        if "type" not in findings.bad.get(("tag", alarm.tag), ()) and (problem_ := _type_problem(alarm, tag)):
            findings.add(table, problem_)
        if wrong.isdisjoint(("tag", "type")):
            first = by_tag.setdefault(alarm.tag, {}).setdefault(alarm.type, name)
            if first != name:
                expected = f"one {alarm.type} alarm a tag; the first is {first}"
                findings.add(
                    table, Problem(("type",), f"{alarm.tag} has two alarms of this type", alarm.type, expected)
                )
    for types in by_tag.values():
        for name, problem in _order_problems(alarms, types, findings):
            findings.add(("alarm", name), problem)


def _type_problem(alarm: AlarmConfig, tag: TagConfig) -> Problem | None:
    fitting = ("bool",) if alarm.type == "BOOL" else ("float", "int")
    if tag.type in fitting:
        return None
    expected = "one of: HIHI, HI, LO, LOLO" if tag.type in ("float", "int") else "BOOL" if tag.type == "bool" else ""
    return Problem(
        ("type",), f"{tag.name} is of type {tag.type}", alarm.type, expected or "a tag of another type", ("tag",)
    )


def _order_problems(
    alarms: Mapping[str, AlarmConfig], types: Mapping[str, str], findings: Findings
) -> Iterator[tuple[str, Problem]]:
    present = [
        (name, alarms[name])
        for kind in _ORDER
        if (name := types.get(kind)) and "limit" not in findings.bad.get(("alarm", name), ())
    ]
    numbered = [(name, alarm, alarm.limit) for name, alarm in present if isinstance(alarm.limit, float)]
    for (low_name, low, bottom), (high_name, high, top) in pairwise(numbered):
        if bottom < top:
            continue
        message = f"the limits of {low.tag} are not in the order LOLO < LO < HI < HIHI"
        if low.type == "LOLO":  # of a pair, the outer limit is told
            expected = f"less than {top:g}, the {high.type} limit of {high_name}"
            yield low_name, Problem(("limit",), message, bottom, expected)
        else:
            expected = f"more than {bottom:g}, the {low.type} limit of {low_name}"
            yield high_name, Problem(("limit",), message, top, expected)


def check_sources(tags: TagColumns, links: Mapping[str, object], findings: Findings) -> None:
    """Note tags of OPC UA links without a node, and nodes without a link."""
    from_links = tags.which(lambda tag: tag.source.startswith("opcua/"))
    for row in np.flatnonzero(from_links != tags.with_node()).tolist():
        tag, from_link = tags.at(row), bool(from_links[row])
        table = ("tag", tag.name)
        if from_link and not tag.node:
            expected = "the NodeId on the server, as in nsu=URI;s=NAME"
            findings.add(table, Problem(("node",), f"a tag of {tag.source} needs a node", None, expected, ("source",)))
        elif tag.node and not from_link and not node_id_problem(tag.node):
            expected = f"a source beside it: {', '.join(f'opcua/{name}' for name in links) or 'an [opcua] section'}"
            findings.add(
                table, Problem(("node",), "the node belongs to no OPC UA link", tag.node, expected, ("source",))
            )


def check_nodes(nodes: Mapping[str, NodeConfig], actors: tuple[str, ...], findings: Findings) -> None:
    """Note nodes and needs that name actors which the plant does not have, actors that no node runs, and circles."""
    for name, node in nodes.items():
        table = ("node", name)
        globs = [glob for glob in node.actors if not glob_problem(glob)]
        for glob in globs:
            if not any(map(compile_globs([glob]), actors)):
                findings.add(table, Problem(("actors",), "no actor has this name", glob, one_of(glob, actors)))
        if len(globs) == len(node.actors):
            runs = compile_globs(globs)
            left = [actor for actor in actors if not runs(actor)]
            if left:
                # There is only one node: an actor that it does not run would never start.
                findings.add(
                    table, Problem(("actors",), "no node runs some actors", node.actors, ", ".join(left) + " too")
                )
        _check_needs(table, node, actors, findings)


def _check_needs(table: tuple[str, str], node: NodeConfig, actors: tuple[str, ...], findings: Findings) -> None:
    for actor, needs in node.needs.items():
        for name in (actor, *needs):
            if name not in actors:
                problem = Problem(("needs", actor), "there is no such actor", name, one_of(name, actors))
                findings.add(table, problem)
    for actor, circle in circles(all_needs(actors, node.needs), node.needs):
        value = " needs ".join(circle)
        findings.add(table, Problem(("needs", actor), "actors wait for each other", value, "no circle of needs"))


def _tag_hint(name: str, tags: Mapping[str, TagConfig]) -> str:
    hint = near(name, tags) if len(tags) <= _FEW else ""
    # Tags that only a machine's code names are unknown here: whoever wants an alarm on one declares it.
    return f"{hint} (did you mean that?)" if hint else f'a tag that is declared, as [tag."{name}"] or in a tag file'
