"""The `key=value` arguments of the engine, as the original's command line has them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

from tagwerk.protocols.errors import ConfigError, ConfigErrors

MOST_CLIENTS: Final = 1_000
MOST_DELAY_S: Final = 86_400.0
_TRUTH: Final = {
    "true": True,
    "1": True,
    "yes": True,
    "on": True,
    "false": False,
    "0": False,
    "no": False,
    "off": False,
}


@dataclass(frozen=True, slots=True)
class Keys:
    """What the engine is told. "" is: not said.

    Args:
        dashboard_host_address: Where messages about the run are posted, `http://host:port`.
        log_info: Whether each step of the run is written down.
        device_registry_url: Where resources are looked for that the order does not name.
        assignment_agent_url: Who chooses among them; else the one with the shortest queue is taken.
        custom_url: A prefix; with the port of a resource that was assigned it makes its URL.
        number_default_clients: So many of the resources that the order names are connected to before it begins.
        delay_start: Seconds before anything begins.
    """

    dashboard_host_address: str = ""
    log_info: bool = False
    device_registry_url: str = ""
    assignment_agent_url: str = ""
    custom_url: str = ""
    number_default_clients: int = 1
    delay_start: float = 0.0


def read_keys(arguments: Sequence[str]) -> Keys:
    """Read `key=value` arguments.

    Raises:
        ConfigErrors: All that is wrong with them.
    """
    errors: list[ConfigError] = []
    found: dict[str, Any] = {}
    known = [one.name for one in fields(Keys)]
    for argument in arguments:
        key, separator, value = argument.partition("=")
        if not separator or key not in known:
            expected = "key=value, key one of " + ", ".join(known)
            errors.append(ConfigError("this is no argument of the engine", value=argument, expected=expected))
        elif key in found:
            errors.append(ConfigError("the key stands there twice", key=key, value=value))
        else:
            try:
                found[key] = _read(key, value)
            except ValueError as error:
                errors.append(ConfigError("the value is not allowed", key=key, value=value, expected=str(error)))
    if errors:
        raise ConfigErrors(errors)
    return Keys(**found)


def _read(key: str, value: str) -> Any:
    if key == "log_info":
        if value.lower() not in _TRUTH:
            raise ValueError("true or false")
        return _TRUTH[value.lower()]
    if key == "number_default_clients":
        if not value.isdecimal() or int(value[:10]) > MOST_CLIENTS:
            raise ValueError(f"a whole number from 0 to {MOST_CLIENTS}")
        return int(value)
    if key == "delay_start":
        return _seconds(value)
    if not value or any(letter.isspace() for letter in value):
        raise ValueError("an address")
    if key == "dashboard_host_address" and not value.startswith(("http://", "https://")):
        raise ValueError("http://host:port")
    return value


def _seconds(value: str) -> float:
    expected = f"seconds from 0 to {MOST_DELAY_S:g}"
    try:
        seconds = float(value)
    except ValueError as error:
        raise ValueError(expected) from error
    if math.isnan(seconds) or not 0 <= seconds <= MOST_DELAY_S:
        raise ValueError(expected)
    return seconds
