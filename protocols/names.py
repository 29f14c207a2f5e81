"""Names of tags and actors, and the globs that select tags.

A tag name is dotted segments of letters, digits and underscores (`brewhouse.kettle.temperature`). An actor name is
`kind/name` (`cvt/0`, `opcua/plc`); on disk the slash is a dash (`cvt-0`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Annotated, Final, TypeAlias

import msgspec

from tagwerk.protocols.errors import Refused, RefusedCode

NAME_LIMIT: Final = 200  # characters of a tag name, an actor name, a glob

_TAG: Final = re.compile(r"[A-Za-z0-9_]+(?:\.[A-Za-z0-9_]+)*")
_ACTOR: Final = re.compile(r"[a-z0-9_]+/[a-z0-9_A-Z]+")
_GLOB: Final = re.compile(r"[A-Za-z0-9_.*?/]+")
_STRANGE: Final = re.compile(r"[^A-Za-z0-9_.]")

TagName: TypeAlias = Annotated[str, msgspec.Meta(pattern=rf"\A{_TAG.pattern}\Z", max_length=NAME_LIMIT)]
ActorName: TypeAlias = Annotated[str, msgspec.Meta(pattern=rf"\A{_ACTOR.pattern}\Z", max_length=NAME_LIMIT)]


def name_problem(text: str) -> str | None:
    """Say what is wrong with a tag name, or None if it is sound."""
    if len(text) <= NAME_LIMIT and _TAG.fullmatch(text):
        return None
    if not text:
        return "the name is empty"
    if len(text) > NAME_LIMIT:
        return f"the name has {len(text)} characters, more than {NAME_LIMIT}"
    if strange := _STRANGE.search(text):
        return f"the name holds {strange[0]!r}; allowed are letters, digits, underscores, and dots between segments"
    return "the name has an empty segment; one dot stands between segments, none at the ends"


def check_tag_name(text: str) -> str:
    """Give the name back.

    Raises:
        Refused: `BadValue` if it is not a tag name.
    """
    if problem := name_problem(text):
        raise Refused(RefusedCode.BAD_VALUE, f"{text[:NAME_LIMIT]!r} is no tag name: {problem}")
    return text


def actor_name_problem(text: str) -> str | None:
    """Say what is wrong with an actor name, or None if it is sound."""
    if len(text) > NAME_LIMIT:
        return f"the name has {len(text)} characters, more than {NAME_LIMIT}"
    return None if _ACTOR.fullmatch(text) else "an actor is named kind/name, as in cvt/0 or opcua/plc"


def check_actor_name(text: str) -> str:
    """Give the name back.

    Raises:
        Refused: `BadValue` if it is not an actor name.
    """
    if problem := actor_name_problem(text):
        raise Refused(RefusedCode.BAD_VALUE, f"{text[:NAME_LIMIT]!r} is no actor name: {problem}")
    return text


def actor_kind(name: str) -> str:
    """Give the kind of an actor: `cvt` of `cvt/0`.

    Raises:
        Refused: `BadValue` if it is not an actor name.
    """
    return check_actor_name(name).partition("/")[0]


def file_form(name: str) -> str:
    """Give the form of an actor name that stands in file names: `cvt-0` of `cvt/0`.

    Raises:
        Refused: `BadValue` if it is not an actor name.
    """
    return check_actor_name(name).replace("/", "-")


def glob_problem(text: str) -> str | None:
    """Say what is wrong with a glob, or None if it is sound."""
    if not text:
        return "the glob is empty"
    if len(text) > NAME_LIMIT:
        return f"the glob has {len(text)} characters, more than {NAME_LIMIT}"
    if "[" in text or "]" in text:
        return "character sets in brackets are not supported; use * and ?"
    return None if _GLOB.fullmatch(text) else "a glob holds letters, digits, underscores, dots, * and ?"


def is_glob(text: str) -> bool:
    """Tell whether the text may match more than the name it spells."""
    return "*" in text or "?" in text


def compile_globs(globs: Iterable[str]) -> Callable[[str], bool]:
    """Give a test of whether a name matches any of the globs; upper and lower case differ.

    `*` matches any run of characters, dots included; `?` matches one character. The test takes time linear in the name
    for each glob, whatever the globs are.

    Raises:
        Refused: `BadValue` if one of them is not a glob.
    """
    names: set[str] = set()
    patterns: list[str] = []
    for glob in dict.fromkeys(globs):
        if problem := glob_problem(glob):
            raise Refused(RefusedCode.BAD_VALUE, f"{glob[:NAME_LIMIT]!r} is no glob: {problem}")
        if is_glob(glob):
            patterns.append(_pattern(glob))
        else:
            names.add(glob)
    if not patterns:
        return names.__contains__
    match = re.compile("|".join(patterns), re.DOTALL).fullmatch
    return lambda name: name in names or match(name) is not None


def _pattern(glob: str) -> str:
    first, *rest = [re.escape(part).replace(r"\?", ".") for part in re.split(r"\*+", glob)]
    if not rest:
        return first
    *middle, last = rest
    # Atomic groups: the leftmost fit of a part is always good enough, so the matcher never has to go back.
    return first + "".join(f"(?>.*?{part})" for part in middle) + f".*{last}"
