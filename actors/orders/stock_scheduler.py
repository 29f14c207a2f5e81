"""Fraunhofer's `pfdl-scheduler` (0.9.0, from PyPI) as it can be used here: says what is to be done, and in whose names.

Its ids are counts that it gives in the order of events, so the same tokens in the same order give the same ids: what
was begun under them can be gone on with by another process. It draws nothing, writes no log, and leaves no files.
Known errors of the language are its own (docs/reference/orders.md); ours is only the way in and out.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import re
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol, final

from tagwerk.actors.orders.logic.pfdl.values import misfits, type_of
from tagwerk.protocols.errors import ConfigError, ConfigErrors, LocalProtocolError, Refused, RefusedCode
from tagwerk.protocols.orders import Asked, Given

VERSION: Final = "0.9.0"
INSTALL: Final = "pip install 'tagwerk[pfdl-scheduler]'"
ROOT_ID: Final = "0"
"""The first task's id: it counts tasks and services apart, each from 0."""
_TOLD: Final = re.compile(r"(.*)\nFile .*, in line (\d+):(-?\d+)")


class Hearer(Protocol):
    """Who is told what is to be done; the ids are the scheduler's."""

    def task_started(self, task_id: str, name: str, context_id: str, values: tuple[Given, ...]) -> None:
        """A task begins, with what it takes; the first one is its own context."""
        ...

    def task_finished(self, task_id: str, name: str, context_id: str, values: tuple[Given, ...]) -> None:
        """A task has ended, and gives this to the one that called it, under that one's names."""
        ...

    def service_started(
        self, service_id: str, name: str, context_id: str, inputs: tuple[Given, ...], outputs: tuple[Asked, ...]
    ) -> None:
        """A service is to be executed."""
        ...


def library() -> Any:
    """Give the library's module of the scheduler.

    Raises:
        ConfigError: It is not installed.
    """
    try:
        with warnings.catch_warnings():  # its net library imports `imp`
            warnings.simplefilter("ignore", DeprecationWarning)
            return importlib.import_module("pfdl_scheduler.scheduler")
    except ImportError as error:
        if sys.version_info >= (3, 12):
            message = f"pfdl-scheduler {VERSION} does not run on Python 3.12 or later: {error}"
            raise ConfigError(message, expected="Python 3.11, or `tagwerk order start`") from error
        raise ConfigError(f"pfdl-scheduler is not installed ({error})", expected=INSTALL) from error


@final
class StockScheduler:
    """One run of one text.

    Args:
        text: The order, in PFDL.
        name: Of its file, for what is said of it.

    Raises:
        ConfigErrors: The scheduler says what is wrong with it.
        ConfigError: It is not installed.
    """

    def __init__(self, text: str, name: str) -> None:
        self._name = name
        self._module = library()
        self._scheduler = self._made(text)
        self._scopes: dict[str, dict[str, Given]] = {}
        self._services: dict[str, _Called] = {}
        self._hearer: Hearer | None = None
        self._given: tuple[Given, ...] = ()

    # --- before it runs ---

    @property
    def inputs(self) -> dict[str, str]:
        """What `productionTask` takes: name -> type."""
        declared = self._scheduler.process.tasks["productionTask"].input_parameters
        return {name: str(type_) for name, type_ in declared.items()}

    def take(self, inputs: Mapping[str, Any]) -> None:
        """Set what `productionTask` takes.

        Raises:
            ConfigErrors: It does not fit.
        """
        structs = self._scheduler.process.structs.values()
        fields = {one.name: {name: type_of(str(of)) for name, of in one.attributes.items()} for one in structs}
        errors = [
            ConfigError(misfit.message, file=self._name, key=key, value=misfit.value, expected=misfit.expected)
            for key, type_ in self.inputs.items()
            for misfit in misfits(inputs.get(key), type_of(type_), fields)
        ]
        if errors:
            raise ConfigErrors(errors)
        self._given = tuple(Given(key, type_, inputs[key]) for key, type_ in self.inputs.items())

    @property
    def root_values(self) -> tuple[Given, ...]:
        """What the first task takes, once it is set."""
        return self._given

    # --- the run ---

    @property
    def running(self) -> bool:
        """Whether it waits for a token."""
        return bool(self._scheduler.running)

    def start(self, hearer: Hearer) -> None:
        """Begin: tells what is to be done first.

        Raises:
            Refused: It cannot go on.
        """
        self._hearer = hearer
        with self._understood():
            self._scheduler.running = True  # it says so itself only when the first steps are done, over their word
            event = self._module.Event(event_type=self._module.START_PRODUCTION_TASK, data={})
            self._scheduler.fire_event(event)

    def finish(self, service_id: str, outputs: Mapping[str, Any]) -> None:
        """Take a token: a service has ended, and gave this. Tells what is to be done next.

        Raises:
            Refused: It cannot go on.
            LocalProtocolError: It did not wait for this.
        """
        service = self._services.pop(service_id, None)
        if service is None:
            raise LocalProtocolError(f"pfdl-scheduler does not wait for a service {service_id}")
        with self._understood():
            given = {one.name: Given(one.name, one.type, outputs[one.name]) for one in service.outputs}
            self._scopes[service.task_id].update(given)
            event = self._module.Event("service_finished", {"service_id": service_id})
            if not self._scheduler.fire_event(event):
                raise Refused(RefusedCode.CONFLICT, f"pfdl-scheduler does not wait for service {service_id}")

    @contextlib.contextmanager
    def _understood(self) -> Iterator[None]:
        """Say in one line what the library could not do."""
        try:
            yield
        except (Refused, LocalProtocolError, OSError, MemoryError):
            raise
        except Exception as error:  # its errors are of every kind
            text = " ".join(str(error).split())[:300]
            raise Refused(RefusedCode.BAD_VALUE, f"pfdl-scheduler: {type(error).__name__}: {text}") from error

    def _made(self, text: str) -> Any:
        """Have it read a text, in a folder that goes: it makes one of its own, and takes the root logger if it is free.

        It writes what is wrong to stdout.
        """
        root, said = logging.getLogger(), io.StringIO()
        guard = logging.NullHandler()
        root.addHandler(guard)  # with a handler there, `basicConfig` changes nothing
        try:
            with tempfile.TemporaryDirectory(prefix="pfdl-") as folder, contextlib.chdir(folder):
                path = Path("order.pfdl")
                path.write_text(text, encoding="utf-8")
                with contextlib.redirect_stdout(said), self._understood():
                    made = self._module.Scheduler(str(path), generate_test_ids=True, draw_petri_net=False)
        except Refused as error:
            raise ConfigErrors(self._wrong(said.getvalue()) or [ConfigError(str(error), file=self._name)]) from error
        finally:
            root.removeHandler(guard)
        for observer in list(made.observers):
            made.detach(observer)
        if not made.pfdl_file_valid or not made.process.tasks:
            unsaid = ConfigError("pfdl-scheduler says that this is no order", file=self._name)
            raise ConfigErrors(self._wrong(said.getvalue()) or [unsaid])
        made.register_callback_task_started(self._task_started)
        made.register_callback_task_finished(self._task_finished)
        made.register_callback_service_started(self._service_started)
        made.register_variable_access_function(self._variable)
        return made

    def _wrong(self, said: str) -> list[ConfigError]:
        """Give what it wrote about a text."""
        found = [(text.strip(), int(line)) for text, line, _ in _TOLD.findall(said)]
        return [ConfigError(text, file=self._name, line=line or None) for text, line in found]

    # --- what it calls ---

    def _task_started(self, task: Any) -> None:
        values = self._given
        if task.task_context is not None:
            declared = task.task.input_parameters.items()
            given = [self._value(task.task_context, one) for one in task.input_parameters]
            values = tuple(
                Given(name, str(type_), one.value) for (name, type_), one in zip(declared, given, strict=True)
            )
        self._scopes[task.uuid] = {one.name: one for one in values}
        self._told.task_started(task.uuid, task.task.name, self._context(task), values)

    def _task_finished(self, task: Any) -> None:
        scope, values = self._scopes[task.uuid], tuple[Given, ...]()
        if task.task_context is not None:
            wanted = task.task_call.output_parameters.items()
            inner = [scope[name] for name in task.task.output_parameters]
            values = tuple(
                Given(name, str(type_), one.value) for (name, type_), one in zip(wanted, inner, strict=False)
            )
            self._scopes[task.task_context.uuid].update({one.name: one for one in values})
            del self._scopes[task.uuid]
        self._told.task_finished(task.uuid, task.task.name, self._context(task), values)

    def _service_started(self, service: Any) -> None:
        inputs = tuple(self._value(service.task_context, one) for one in service.input_parameters)
        outputs = tuple(Asked(name, str(type_)) for name, type_ in service.service.output_parameters.items())
        self._services[service.uuid] = _Called(service.task_context.uuid, outputs)
        self._told.service_started(service.uuid, service.service.name, service.task_context.uuid, inputs, outputs)

    @property
    def _told(self) -> Hearer:
        if self._hearer is None:
            raise LocalProtocolError("the scheduler was not started")
        return self._hearer

    @staticmethod
    def _context(task: Any) -> str:
        return str(task.uuid if task.task_context is None else task.task_context.uuid)

    def _variable(self, name: str, task: Any) -> Any:
        """Its access to variables: structs as objects with `attributes`."""
        return _view(self._scopes[task.uuid][name].value)

    # --- values ---

    def _value(self, task: Any, given: Any) -> Given:
        """Give an input: a variable, a path, or a literal."""
        scope = self._scopes[task.uuid]
        if isinstance(given, str):
            return scope[given]
        if not isinstance(given, list):
            return Given("", given.name, _plain(given))
        steps = [self._step(task, one) for one in given]
        found = scope[str(steps[0])]
        type_, value, path = type_of(found.type), found.value, str(steps[0])
        structs = self._scheduler.process.structs
        for step in steps[1:]:
            if isinstance(step, int):
                type_, path = type_.element, f"{path}[{step}]"
            else:
                type_, path = type_of(str(structs[type_.name].attributes[step])), f"{path}.{step}"
            value = value[step]
        return Given(path, str(type_), value)

    def _step(self, task: Any, part: str) -> str | int:
        """Give a part of a path; the count of a loop that the scheduler has left in it is put in."""
        if not part.startswith("["):
            return part
        index = part.strip("[]")
        if index.isdecimal():
            return int(index)
        for loop, count in self._scheduler.loop_counters.get(task.uuid, {}).items():
            if getattr(loop, "counting_variable", None) == index:
                return int(count)
        raise Refused(RefusedCode.BAD_VALUE, f"`{part}`: no loop counts `{index}`")


class _Called(NamedTuple):
    """What is kept of a service: the scheduler uses its own object again in the next turn of a loop."""

    task_id: str
    outputs: tuple[Asked, ...]


@final
class _Fields:
    """A struct or an array as the scheduler reads it: by name, and by `[n]`."""

    def __init__(self, value: Mapping[str, Any] | list[Any]) -> None:
        parts = value.items() if isinstance(value, Mapping) else ((f"[{n}]", one) for n, one in enumerate(value))
        self.attributes = {name: _view(one) for name, one in parts}


def _view(value: Any) -> Any:
    return _Fields(value) if isinstance(value, (Mapping, list)) else value


def _plain(literal: Any) -> Any:
    """Give the value of a literal of its model: structs have `attributes`, arrays `values`."""
    if hasattr(literal, "attributes"):
        return {name: _plain(one) for name, one in literal.attributes.items()}
    return [_plain(one) for one in literal.values] if hasattr(literal, "values") else literal
