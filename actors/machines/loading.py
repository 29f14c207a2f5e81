"""Importing a user's machine: what is wrong with the code is told with file and line, never as a trace."""

from __future__ import annotations

import importlib
import sys
import traceback
from pathlib import Path
from types import ModuleType, new_class

from statemachine import State

from tagwerk.actors.machines.machine import Machine
from tagwerk.protocols.errors import ConfigError


def load_class(class_path: str, code: Path) -> type[Machine]:
    """Import the class of a machine. One without states of its own gets a single one, `running`.

    Args:
        class_path: `module:Class`.
        code: The folder that is searched first.

    Raises:
        ConfigError: It cannot be imported, or is no machine.
    """
    module_name, _, class_name = class_path.partition(":")
    module = _load_module(module_name, class_path, code)
    found = getattr(module, class_name, None)
    file = module.__file__ or ""
    if found is None:
        names = [name for name, value in vars(module).items() if _is_machine(value) and value is not Machine]
        expected = ", ".join(f"{module_name}:{name}" for name in names) or "a class in that module"
        raise ConfigError(f"the module has no {class_name}", file=file, value=class_path, expected=expected)
    if not _is_machine(found):
        raise ConfigError(
            f"{class_name} is no machine", file=file, value=class_path, expected="a subclass of tagwerk.Machine"
        )
    machine: type[Machine] = found
    return machine if machine.states else _with_a_state(machine)


def _with_a_state(machine: type[Machine]) -> type[Machine]:
    """The class with one state: python-statemachine takes a class without any for an abstract one."""
    names = {"running": State(initial=True), "__module__": machine.__module__, "__qualname__": machine.__qualname__}
    return new_class(machine.__name__, (machine,), exec_body=lambda space: space.update(names))


def code_error(error: BaseException, code: Path, value: str) -> ConfigError:
    """What the user's code raised, as an error that names the line in the user's own files.

    Args:
        error: What was raised.
        code: The folder of the user's files.
        value: What was being loaded.
    """
    if isinstance(error, SyntaxError) and error.filename is not None:
        return ConfigError(
            f"{type(error).__name__}: {error.msg}",
            file=error.filename,
            line=error.lineno,
            value=(error.text or "").strip() or value,
            expected="Python that compiles",
        )
    frames = traceback.extract_tb(error.__traceback__)
    inside = [frame for frame in frames if Path(frame.filename).is_relative_to(code)]
    place = inside[-1] if inside else None
    text = str(error).strip().partition("\n")[0]
    return ConfigError(
        f"{type(error).__name__}: {text}" if text else type(error).__name__,
        file=place.filename if place else "",
        line=place.lineno if place else None,
        value=(place.line if place else "") or value,
        expected="code that can be imported, without a plant around it",
    )


def _load_module(name: str, class_path: str, code: Path) -> ModuleType:
    if str(code) not in sys.path:
        sys.path.insert(0, str(code))
    # What Python has seen in the folder so far; of all others, too, would write into memory that is shared.
    sys.path_importer_cache.pop(str(code), None)
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            expected = f"a file {name.replace('.', '/')}.py beside the plant file, or an installed module"
            raise ConfigError(f"there is no module {name}", value=class_path, expected=expected) from error
        raise code_error(error, code, class_path) from error
    except (Exception, SystemExit) as error:  # whatever the user's code does when it is imported
        raise code_error(error, code, class_path) from error
    own = code / (name.replace(".", "/") + ".py")
    if own.exists() and not Path(module.__file__ or "").is_relative_to(code):
        raise ConfigError(
            f"another module is called {name}",
            file=str(own),
            value=class_path,
            expected="a name of its own for the file",
        )
    return module


def _is_machine(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, Machine)
