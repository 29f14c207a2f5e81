"""The plant file: TOML, with CSV files for long lists of tags, read as a whole or refused with all that is wrong."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

from tagwerk.protocols.errors import ConfigError, ConfigErrors
from tagwerk.runtime.plantfile_build import build_plant
from tagwerk.runtime.plantfile_findings import Findings
from tagwerk.runtime.plantfile_models import PlantFile, PlantTables
from tagwerk.runtime.plantfile_text import KeyLines

__all__ = ["Check", "PlantFile", "as_rows", "build", "load", "parse", "schema"]

_ERROR_LINE: Final = re.compile(r" \(at line (\d+), column \d+\)")


Check: TypeAlias = Callable[[PlantFile], list[ConfigError]]


def load(path: Path, *, checks: Sequence[Check] = ()) -> PlantFile:
    """Read a plant file and the CSV files that it names.

    Args:
        path: The TOML file.
        checks: More checks, such as that of the machines' code. They get the plant with defaults in the place of
            what is wrong; their errors are listed with the others, with file and line added where they have none.

    Raises:
        ConfigErrors: All that is wrong.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        message = f"the plant file cannot be read: {error.strerror}"
        raise ConfigErrors([ConfigError(message, file=str(path), expected="a readable TOML file")]) from error
    except UnicodeDecodeError as error:
        message = f"the plant file is not UTF-8: {error.reason}"
        raise ConfigErrors([ConfigError(message, file=str(path), expected="UTF-8 text")]) from error
    return parse(text, path, checks=checks)


def parse(text: str, path: Path, *, checks: Sequence[Check] = ()) -> PlantFile:
    """Read a plant file from its text; `path` names it in errors, and files that it names are relative to it.

    Raises:
        ConfigErrors: All that is wrong.
    """
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigErrors([_syntax_error(str(error), text, path)]) from error
    return build(tables, path, text=text, checks=checks)


def build(tables: Mapping[str, Any], path: Path, *, text: str = "", checks: Sequence[Check] = ()) -> PlantFile:
    """Make a plant of tables that were read already (a file with changes laid over it); `text` gives lines to errors.

    Raises:
        ConfigErrors: All that is wrong.
    """
    findings = Findings(str(path), KeyLines(text), tables)
    plant = build_plant(path, findings)
    for check in checks:
        for error in check(plant):
            findings.adopt(error)
    if findings.errors:
        raise ConfigErrors(findings.errors)
    return plant


def schema() -> dict[str, Any]:
    """Give the JSON schema of the plant file, for editors."""
    result = PlantTables.model_json_schema(by_alias=True)
    tag = result["$defs"]["TagConfig"]  # its name is the name of its table, not a key
    del tag["properties"]["name"]
    del tag["required"]
    return result


def as_rows(errors: Iterable[ConfigError] | ConfigError) -> list[dict[str, str | int | None]]:
    """Give errors as the rows of `check --json`: file, line, key, value, message, expected."""
    if isinstance(errors, ConfigErrors):
        errors = errors.errors
    elif isinstance(errors, ConfigError):
        errors = [errors]
    return [
        {
            "file": error.file,
            "line": error.line,
            "key": error.key,
            "value": error.value,
            "message": error.message,
            "expected": error.expected,
        }
        for error in errors
    ]


def _syntax_error(message: str, text: str, path: Path) -> ConfigError:
    match = _ERROR_LINE.search(message)
    line = int(match[1]) if match else len(text.splitlines())  # else it is "at end of document"
    lines = text.splitlines()
    written = lines[line - 1].strip() if 0 < line <= len(lines) else ""
    return ConfigError(
        _ERROR_LINE.sub("", message),
        file=str(path),
        value=written,
        expected="TOML 1.0; each table and each key once",
        line=line or None,
    )
