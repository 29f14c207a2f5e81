"""What can be wrong with structs, and with names that are defined or meant."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TypeVar

from tagwerk.actors.orders.logic.pfdl import limits
from tagwerk.actors.orders.logic.pfdl.model import PRIMITIVES, Definition, Finding, Place, Struct, Task, Type

Named = TypeVar("Named", Struct, Task)


def meant(name: str, known: Collection[str], findings: list[Finding], if_none: str = "it defined first") -> str:
    """Give what would be right instead of an unknown name; after many `findings` it takes no time over that."""
    if len(findings) > limits.TOLD_FINDINGS:
        return "a name that is defined"
    names = sorted(itertools.islice(known, limits.MEANT_AMONG))
    near = difflib.get_close_matches(name, names, 1, 0.6)
    if near:
        return f"`{near[0]}`?"
    return (", ".join(f"`{one}`" for one in names[:8]) or if_none) + (", ..." if len(names) > 8 else "")


def by_name(found: Iterable[Named], what: str, findings: list[Finding]) -> dict[str, Named]:
    """Give structs or tasks by name; a second one of a name is a finding."""
    known: dict[str, Named] = {}
    for one in found:
        if (first := known.setdefault(one.name, one)) is not one:
            message = f"{what} {one.name} is defined twice"
            findings.append(Finding(one.place, message, f"another name than in line {first.place.line}", one.name))
    return known


def check_type(definition: Definition, structs: Collection[str], key: str, findings: list[Finding]) -> bool:
    """Tell whether the type of a definition is known; if not it is a finding."""
    type_ = definition.type
    if type_.name in PRIMITIVES or type_.name in structs:
        return True
    expected = meant(type_.name, (*PRIMITIVES, *structs), findings)
    findings.append(Finding(definition.place, f"there is no type {type_.name}", expected, str(type_), key))
    return False


def check_structs(
    structs: Mapping[str, Struct], findings: list[Finding], known: Collection[str]
) -> tuple[dict[str, dict[str, Type]], dict[str, int]]:
    """Check structs; `known` are the names of all.

    Returns:
        Of each sound one the types of its fields, and how many values one of it holds.
    """
    fields: dict[str, dict[str, Type]] = {}
    for struct in structs.values():
        key = f"Struct {struct.name}"
        own: dict[str, Type] = {}
        sound = True
        for definition in struct.fields:
            if definition.name in own:
                message = f"the field `{definition.name}` is defined twice"
                findings.append(Finding(definition.place, message, "another name", definition.name, key))
            own[definition.name] = definition.type
            sound &= check_type(definition, known, key, findings)
        if sound:
            fields[struct.name] = own
    needs = {name: [type_.name for type_ in own.values() if type_.name in structs] for name, own in fields.items()}
    order, rest = ordered(needs)
    for name in rest:
        del fields[name]
    _note_cycle(rest, needs, lambda name: structs[name].place, "a struct cannot hold itself", findings)
    return fields, _check_sizes(order, structs, fields, findings)


def _check_sizes(
    order: Iterable[str], structs: Mapping[str, Struct], fields: dict[str, dict[str, Type]], findings: list[Finding]
) -> dict[str, int]:
    """Find types of which one value would be huge; `order`: each after what it is made of."""
    depths: dict[str, int] = {}
    sizes: dict[str, int] = {}
    for name in order:
        of = fields[name].values()
        depths[name] = 1 + max((depths.get(type_.name, 0) for type_ in of), default=0)
        sizes[name] = sum(size_of(type_, sizes) for type_ in of)
        place, key = structs[name].place, f"Struct {name}"
        if depths[name] > limits.TYPE_DEPTH:
            depths[name] = 0  # told once, not again for each that is made of it
            findings.append(Finding(place, "structs are nested too deep", f"at most {limits.TYPE_DEPTH}", key=key))
        if sizes[name] > limits.TYPE_VALUES:
            message = f"one value of {name} holds {sizes[name]} values"
            findings.append(Finding(place, message, f"at most {limits.TYPE_VALUES}", key=key))
            sizes[name] = 1
    return sizes


def size_of(type_: Type, sizes: Mapping[str, int]) -> int:
    """Give how many values the zero of a type holds; `sizes`: of structs."""
    return ((type_.length or 0) if type_.array else 1) * sizes.get(type_.name, 1)


def _note_cycle(
    rest: set[str],
    needs: Mapping[str, Iterable[str]],
    place_of: Callable[[str], Place],
    message: str,
    findings: list[Finding],
) -> None:
    told = 0
    while rest and told < limits.TOLD_CIRCLES:
        told += 1
        cycle = cycle_in(rest, needs)
        first = min(cycle, key=place_of)
        turn = cycle.index(first)
        names = [*cycle[turn:], *cycle[:turn], first]
        way = " -> ".join(names if len(names) < 8 else [*names[:4], "...", *names[-2:]])
        findings.append(Finding(place_of(first), message, "no such circle", way))
        # What only leads into the circle is no error of its own.
        _, rest = ordered({name: [n for n in needs[name] if n not in cycle] for name in rest if name not in cycle})


def ordered(needs: Mapping[str, Iterable[str]]) -> tuple[list[str], set[str]]:
    """Sort names so that each comes after what it needs; give those, and the names that are in or behind a circle."""
    open_: dict[str, set[str]] = {name: {need for need in of if need in needs} for name, of in needs.items()}
    users: dict[str, list[str]] = {name: [] for name in needs}
    for name, of in open_.items():
        for need in of:
            users[need].append(name)
    free = [name for name, of in open_.items() if not of]
    for name in free:  # grows while it is walked
        for user in users[name]:
            open_[user].discard(name)
            if not open_[user]:
                free.append(user)
    return free, set(needs) - set(free)


def cycle_in(rest: set[str], needs: Mapping[str, Iterable[str]]) -> list[str]:
    """Give one circle among names of which each needs another of them."""
    name = min(rest)
    way: list[str] = []
    while name not in way:
        way.append(name)
        name = next(need for need in needs[name] if need in rest)
    return way[way.index(name) :]


def check_calls(needs: Mapping[str, Iterable[str]], tasks: Mapping[str, Task], findings: list[Finding]) -> bool:
    """Tell whether no task calls itself, over whatever others; if one does it is a finding."""
    _, rest = ordered(needs)
    circular = bool(rest)
    _note_cycle(rest, needs, lambda name: tasks[name].place, "a task cannot call itself", findings)
    return not circular
