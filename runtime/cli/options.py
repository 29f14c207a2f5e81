"""What all commands share: global options that may stand anywhere on the line, examples in the help."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

TAKES_VALUE: Final = MappingProxyType(
    {"--home": True, "--user": True, "--timeout": True, "--json": False, "--utc": False}
)


def hoisted(arguments: list[str]) -> list[str]:
    """Give the arguments with all global options first, where the root of the command line looks for them.

    What follows `--` is left alone.
    """
    globals_: list[str] = []
    rest: list[str] = []
    place = 0
    while place < len(arguments):
        word = arguments[place]
        place += 1
        if word == "--":
            rest += [word, *arguments[place:]]
            break
        name, has_value, _ = word.partition("=")
        if name not in TAKES_VALUE:
            rest.append(word)
            continue
        globals_.append(word)
        if TAKES_VALUE[name] and not has_value:
            globals_ += arguments[place : place + 1]
            place += 1
    return globals_ + rest


def examples(*lines: str) -> str:
    """Give the last part of a command's help: each example on a line of its own."""
    return "\n\n".join(("Examples:", *(f"  {line}" for line in lines)))
