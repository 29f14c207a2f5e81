"""The sections `[order]` and `[resource.NAME]`: their rules, and the tags and alarms that a plant with orders has."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from tagwerk.runtime.plantfile_findings import Findings
from tagwerk.runtime.plantfile_models import ObserverSection, OpcuaConfig, OrderSection, ResourceConfig, resource_names
from tagwerk.runtime.plantfile_rules import opcua_problems
from tagwerk.runtime.plantfile_syntax import URL_FORM, port_problem, url_problem
from tagwerk.runtime.plantfile_tables import Problem

CREW: Final = "order/0"
WEB_FORM: Final = "http://HOST:PORT, as in http://192.168.0.10:8080"
_WEB: Final = re.compile(r"https?://(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(?P<port>\d{1,5}))?(?:/[^\s]*)?")
_CREW_TAGS: Final = (
    ("running", "int", "orders that run"),
    ("executing", "int", "services that have a resource"),
    ("waiting", "int", "services that wait for a resource"),
    ("unknown", "int", "services of which nobody knows what came of them"),
    ("in_doubt", "bool", "whether there are such"),
)
_SLOT_TAGS: Final = (
    ("id", "str", "the order"),
    ("state", "str", "its state"),
    ("finished", "int", "services that have finished"),
    ("services", "str", "services that run"),
)
_RESOURCE_TAGS: Final = (
    ("connected", "bool", "whether there is a session"),
    ("state", "str", "its AssetState"),
    ("queue", "int", "elements in its queue, those of others included"),
    ("waiting", "int", "services that wait here for a place in it"),
    ("order", "str", "the order whose service it executes"),
    ("service", "str", "the service that it executes"),
    ("stuck", "bool", "whether its queue or its AssetState stands still"),
    ("may_move", "bool", "whether it may still be at a service whose place was given up"),
    ("reason", "str", "why it is not connected, or stuck, or may move"),
)


def order_problems(order: OrderSection, folder: Path) -> Iterator[Problem]:
    """Give what is wrong with the section `[order]`; files are relative to `folder`."""
    for key, url in (("registry", order.registry), ("agent", order.agent)):
        if url and (problem := url_problem(url)):
            yield Problem((key,), problem, url, URL_FORM)
    if order.agent and not order.registry:
        yield Problem(("agent",), "an agent chooses among those of a registry", order.agent, "a registry beside it")
    if order.dashboard and (problem := _web_problem(order.dashboard)):
        yield Problem(("dashboard",), problem, order.dashboard, WEB_FORM)
    yield from _access_problems(order, folder)


def observer_problems(observer: ObserverSection, folder: Path) -> Iterator[Problem]:
    """Give what is wrong with the table `[order.observer]`; files are relative to `folder`."""
    if problem := url_problem(observer.url):
        yield Problem(("url",), problem, observer.url, URL_FORM)
    if not observer.user and not observer.anonymous:
        expected = "a user and password_file, or anonymous = true"
        yield Problem(("user",), "nobody may look", None, expected, ("anonymous",))
    if observer.user and observer.security == "none":
        expected = '"sign_and_encrypt"; without security, anonymous = true and no user'
        yield Problem(("security",), "the password would travel readable", observer.security, expected, ("user",))
    for key, other in (("certificate", "key"), ("key", "certificate")):
        name: str = getattr(observer, key)
        if name and not (folder / name).is_file():
            yield Problem((key,), "there is no such file", name, f"a file in {folder}")
        if name and not getattr(observer, other):
            yield Problem((other,), "the key is missing", None, f"it belongs to `{key}`", (key,))
    if observer.key and (folder / observer.key).is_file() and (folder / observer.key).stat().st_mode & 0o077:
        yield Problem(("key",), "the private key is open to others", observer.key, f"chmod 600 {folder / observer.key}")
    yield from _access_problems(observer, folder)


def resource_problems(resource: ResourceConfig, folder: Path) -> Iterator[Problem]:
    """Give what is wrong with one resource; files are relative to `folder`."""
    if problem := url_problem(resource.url):
        yield Problem(("url",), problem, resource.url, URL_FORM)
    yield from _access_problems(resource, folder)


def _access_problems(section: OrderSection | ResourceConfig | ObserverSection, folder: Path) -> Iterator[Problem]:
    link = OpcuaConfig(
        url="opc.tcp://sample:4840", security=section.security, user=section.user, password_file=section.password_file
    )
    yield from opcua_problems(link, folder)


def check_resources(resources: Mapping[str, ResourceConfig], findings: Findings) -> None:
    """Note resources that stand for the same server: its queue would be swept twice, and its name be a guess."""
    first: dict[str, str] = {}
    for name, resource in resources.items():
        known = first.setdefault(normal_url(resource.url), name)
        if known != name:
            expected = f"each server once; the first is resource.{known}"
            findings.add(("resource", name), Problem(("url",), "the server is named twice", resource.url, expected))
        if name == "others":
            expected = "another name: it means those that the file does not name"
            findings.note(("resource", name), Problem((), "the name is taken", name, expected))


def _web_problem(text: str) -> str | None:
    match = _WEB.fullmatch(text)
    if match is None:
        return "it is not the address of a dashboard"
    return port_problem(match["port"] or "80")


def normal_url(url: str) -> str:
    """Give a URL so that two of the same server are equal."""
    return url.strip().rstrip("/").lower()


def order_tags(order: OrderSection, resources: dict[str, ResourceConfig]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Give the tags of a plant that runs orders: name and table."""
    for key, type_, words in _CREW_TAGS:
        yield f"order.{key}", _table(type_, CREW, words)
    for slot in range(1, order.slots + 1):
        for key, type_, words in _SLOT_TAGS:
            yield f"order.slot{slot}.{key}", _table(type_, CREW, f"slot {slot}: {words}")
    for name in resource_names(order, resources):
        for key, type_, words in _RESOURCE_TAGS:
            yield f"resource.{name}.{key}", _table(type_, f"resource/{name}", words)


def order_alarms(resources: Mapping[str, ResourceConfig]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Give the alarms of a plant that runs orders: name and table."""
    text = "nobody knows what came of a service: look at the machine, then `tagwerk order resolve`"
    yield "order.in_doubt", {"tag": "order.in_doubt", "type": "BOOL", "priority": "high", "text": text}
    for name in resources:
        tag = f"resource.{name}.stuck"
        text = f"the queue or the AssetState of resource {name} stands still"
        yield tag, {"tag": tag, "type": "BOOL", "priority": "high", "text": text}
        tag = f"resource.{name}.may_move"
        text = f"resource {name} was given up during a service, and may still move: keep away until it stands still"
        yield tag, {"tag": tag, "type": "BOOL", "priority": "high", "text": text}


def _table(type_: str, source: str, words: str) -> dict[str, Any]:
    return {"type": type_, "source": source, "description": words}
