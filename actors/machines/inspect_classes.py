"""`python -m tagwerk.actors.machines.inspect_classes PLANT CODE`: do the machines' classes fit the plant?

A process of its own, because it runs users' code. Its only output is one JSON object: `errors`, and `tags`, the
outputs that are tags of their own. What users' code prints goes to standard error.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from tagwerk.actors.machines.bench import Bench
from tagwerk.actors.machines.checks import Source, chart_errors, input_errors, output_errors, parameter_errors
from tagwerk.actors.machines.declare import TYPES, inputs_of, outputs_of, parameters_of
from tagwerk.actors.machines.loading import code_error, load_class
from tagwerk.actors.machines.machine import Machine
from tagwerk.protocols.errors import ConfigError, ConfigErrors
from tagwerk.runtime import plantfile
from tagwerk.runtime.plantfile_models import MachineConfig, PlantFile, TagConfig
from tagwerk.runtime.process import die_with_parent

OUTPUT_LIMIT_BYTES: Final = 16 << 20  # of what users' code prints, and of the report
MARK: Final = "inspecting machine "


def inspect_plant(plant: PlantFile, code: Path) -> tuple[list[ConfigError], list[dict[str, str]]]:
    """Import and check the class of each machine of a plant.

    Returns:
        All errors, and the tags that the machines publish and the plant file does not declare.
    """
    errors: list[ConfigError] = []
    machines: dict[str, type[Machine]] = {}
    for name, config in plant.machines.items():
        print(f"{MARK}{name}", file=sys.stderr, flush=True)  # noqa: T201  tells whose code did not come back
        try:
            machines[name] = load_class(config.class_path, code)
        except ConfigError as error:
            errors.append(_at(error, f"machine.{name}.class"))
    published = {tag["name"]: tag for name, machine in machines.items() for tag in _published(name, machine)}
    tags = {**{name: _as_config(tag) for name, tag in published.items()}, **plant.tags}
    for name, machine in machines.items():
        print(f"{MARK}{name}", file=sys.stderr, flush=True)  # noqa: T201
        errors += _machine_errors(name, machine, plant.machines[name], tags, code)
    errors += _shared_outputs(machines)
    errors += _declared_errors(plant.tags, published)
    return errors, [tag for name, tag in published.items() if name not in plant.tags]


def _machine_errors(
    name: str, machine: type[Machine], config: MachineConfig, tags: Mapping[str, TagConfig], code: Path
) -> Iterator[ConfigError]:
    source = Source(machine)
    section = f"machine.{name}"
    if config.mode == "sync":
        yield ConfigError(
            "machines that share a process are not supported yet",
            key=f"{section}.mode",
            value="sync",
            expected='"async"',
        )
    yield from chart_errors(machine, source)
    yield from input_errors(machine, source, tags)
    yield from output_errors(machine, source, tags)
    yield from parameter_errors(machine, source, config, section)
    yield from _built_errors(machine, source, code, section)


def _built_errors(machine: type[Machine], source: Source, code: Path, section: str) -> Iterator[ConfigError]:
    """Does it come to life without a plant around it, as it must when it starts?"""
    try:
        built = machine.build(Bench(machine))
    except (Exception, SystemExit) as error:  # whatever the user's code does
        yield _at(code_error(error, code, machine.__name__), f"{section}.class")
        return
    declared = {**inputs_of(machine), **outputs_of(machine), **parameters_of(machine)}
    for name in machine.keep:
        if name in declared:
            yield source.error("keep", "outputs and parameters are kept anyway, inputs never", name, "other attributes")
        elif not hasattr(built, name):
            yield source.error("keep", "a new machine has no such attribute", name, "one with a value from the start")


def _shared_outputs(machines: Mapping[str, type[Machine]]) -> Iterator[ConfigError]:
    owners: dict[str, str] = {}
    for name, machine in machines.items():
        for attribute, given in outputs_of(machine).items():
            if given.tag is None:
                continue
            other = owners.setdefault(given.tag, f"{name}.{attribute}")
            if other != f"{name}.{attribute}":
                message = f"machine {name} sets a tag that {other} sets already"
                yield Source(machine).error(attribute, message, given.tag, "one output a tag")


def _declared_errors(tags: Mapping[str, TagConfig], published: Mapping[str, dict[str, str]]) -> Iterator[ConfigError]:
    """A tag of a machine may stand in the plant file as well, for a deadband or an alarm: then it must agree."""
    for name, tag in published.items():
        declared = tags.get(name)
        if declared is None:
            continue
        for key in ("source", "type", "unit"):
            if getattr(declared, key) != tag[key]:
                message = f"{tag['source']} publishes this tag with another {key}"
                value = str(getattr(declared, key))
                yield ConfigError(message, key=f'tag."{name}".{key}', value=value, expected=tag[key] or 'unit = ""')


def _published(name: str, machine: type[Machine]) -> Iterator[dict[str, str]]:
    for attribute, given in outputs_of(machine).items():
        if given.tag is None:
            yield {
                "name": f"{name}.{attribute}",
                "type": given.type,
                "unit": given.unit,
                "source": f"machine/{name}",
                "description": given.description,
            }


def _as_config(tag: Mapping[str, str]) -> TagConfig:
    known: Any = tag["type"] if tag["type"] in TYPES else "float"  # another one has an error of its own
    return TagConfig(name=tag["name"], type=known, unit=tag["unit"], source=tag["source"])


def _at(error: ConfigError, key: str) -> ConfigError:
    return ConfigError(
        error.message, file=error.file, line=error.line, key=key, value=error.value, expected=error.expected
    )


def report(plant_path: Path, code: Path) -> dict[str, Any]:
    """What is wrong and which tags there are. Errors of the plant file itself are not ours, and are left out."""
    found: list[ConfigError] = []
    tags: list[dict[str, str]] = []

    def check(plant: PlantFile) -> list[ConfigError]:
        errors, published = inspect_plant(plant, code)
        found.extend(errors)
        tags.extend(published)
        return errors

    try:
        plantfile.load(plant_path, checks=[check])
    except ConfigErrors as error:
        # Ours come last, and now with the lines of the plant file.
        found = error.errors[len(error.errors) - len(found) :]
    return {"errors": plantfile.as_rows(found), "tags": tags}


def main(arguments: list[str]) -> None:
    """Write the report to standard output and end, whatever threads users' code has started."""
    die_with_parent(os.getppid())
    resource.setrlimit(resource.RLIMIT_FSIZE, (OUTPUT_LIMIT_BYTES, OUTPUT_LIMIT_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    result = os.dup(1)
    os.dup2(2, 1)
    plant_path, code = (Path(argument).absolute() for argument in arguments)
    body = json.dumps(report(plant_path, code)).encode()
    with os.fdopen(result, "wb") as file:
        file.write(body)
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
