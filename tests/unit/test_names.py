"""Names of tags and actors, and globs."""

from __future__ import annotations

import fnmatch
import time

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagwerk.protocols.errors import Refused
from tagwerk.protocols.names import (
    NAME_LIMIT,
    ActorName,
    TagName,
    actor_kind,
    actor_name_problem,
    check_actor_name,
    check_tag_name,
    compile_globs,
    file_form,
    glob_problem,
    name_problem,
)


@pytest.mark.parametrize("name", ["a", "A.b_1.C", "brewhouse.kettle.temperature", "0.1", "x" * NAME_LIMIT])
def test_sound_tag_names(name: str) -> None:
    assert name_problem(name) is None
    assert check_tag_name(name) == name
    assert msgspec.convert(name, TagName) == name


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("", "empty"),
        ("a..b", "segment"),
        (".a", "segment"),
        ("a.", "segment"),
        ("a b", "' '"),
        ("kettle-1", "'-'"),
        ("überlauf", "'ü'"),
        ("a\n", "'\\n'"),
        ("x" * (NAME_LIMIT + 1), "201"),
    ],
)
def test_wrong_tag_names_say_what_is_wrong(name: str, word: str) -> None:
    assert word in (name_problem(name) or "")
    with pytest.raises(Refused) as refused:
        check_tag_name(name)
    assert refused.value.code == "BadValue"
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(name, TagName)


def test_actor_names() -> None:
    assert actor_kind("opcua/plc1") == "opcua"
    assert file_form("cvt/0") == "cvt-0"
    assert check_actor_name("order/4F_a") == "order/4F_a"
    assert msgspec.convert("cvt/0", ActorName) == "cvt/0"


@pytest.mark.parametrize("name", ["", "cvt", "cvt/", "/0", "CVT/0", "cvt/0/1", "cvt-0", "../x", "cvt/..", "cvt/0\n"])
def test_wrong_actor_names(name: str) -> None:
    assert actor_name_problem(name)
    for use in (check_actor_name, actor_kind, file_form):
        with pytest.raises(Refused):
            use(name)


@pytest.mark.parametrize(
    ("glob", "yes", "no"),
    [
        ("a.b", ["a.b"], ["a.b.c", "axb", "A.b"]),
        ("*", ["a", "a.b.c", ""], []),
        ("a.*.t", ["a.b.t", "a.b.c.t", "a..t"], ["a.t", "a.b.tt"]),
        ("a?c", ["abc", "a.c"], ["ac", "abbc"]),
        ("*b*b", ["bb", "abab", "bbb"], ["b", "ab"]),
        ("a*a", ["aa", "aba"], ["a"]),
        ("a**b", ["ab", "axb"], ["b"]),
        ("*?", ["a", "ab"], [""]),
    ],
)
def test_globs(glob: str, yes: list[str], no: list[str]) -> None:
    match = compile_globs([glob])
    assert [name for name in yes + no if match(name)] == yes


def test_several_globs_and_none() -> None:
    match = compile_globs(["a.b", "c.*", "a.b"])
    assert match("a.b")
    assert match("c.d")
    assert not match("a.c")
    assert not compile_globs([])("a")


@pytest.mark.parametrize("glob", ["", "[ab]", "a{b}", "a b", "x" * (NAME_LIMIT + 1)])
def test_wrong_globs(glob: str) -> None:
    assert glob_problem(glob)
    with pytest.raises(Refused):
        compile_globs(["a", glob])


@given(st.text("ab.*?", min_size=1, max_size=8), st.text("ab.", max_size=10))
def test_globs_agree_with_fnmatch(glob: str, name: str) -> None:
    assert compile_globs([glob])(name) == fnmatch.fnmatchcase(name, glob)


def test_a_hostile_glob_is_matched_in_linear_time() -> None:
    match = compile_globs(["*a" * 99 + "*b"])
    start = time.perf_counter()
    assert not match("a" * NAME_LIMIT)
    assert time.perf_counter() - start < 1  # a matcher that goes back would need years
