"""The whole workshop: `python examples/workshop/workshop.py [FIRST_PORT] [knobs]`, until Ctrl-C.

FIRST_PORT (4840) is a device registry with an assignment agent; behind it come warehouse, coating, gluing, milling and
mounting, each a process of its own, registered there. Knobs are for all of them; `machine.py` starts a single one. A
line `{"call": ..., "at": ..., "inputs": ...}` is written for each service called. A machine that crashes is back soon.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine
from dataclasses import replace
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event
from typing import Any

import registry
from knobs import Knobs, given_in, options
from machine import machine_of
from machines import KINDS
from model import quiet, standard_nodes

FORK = multiprocessing.get_context("fork")
START_S = 120.0
BACK_AFTER_S = 0.5
OLD = "oldMilling"
OLD_QUEUE_PERIOD_S = 0.2

Serve = Callable[[Event], Coroutine[Any, Any, None]]
"""Runs a server for ever; the event is set when it is ready."""


def servers(first: int, knobs: Knobs, old: bool) -> dict[str, Serve]:
    """Give what is to run, by name: the registry first."""
    found: dict[str, Serve] = {"registry": registry_on(first)}
    slow = replace(knobs, manufacturer="open62541", queue_period_s=OLD_QUEUE_PERIOD_S)
    for port, kind in enumerate(KINDS, first + 1):
        if old or kind != OLD:
            found[kind] = machine_on(kind, port, slow if kind == OLD else knobs, first)
    return found


def registry_on(port: int) -> Serve:
    """Give what runs the registry."""

    async def run(ready: Event) -> None:
        await registry.Registry(port).start()
        ready.set()
        await asyncio.Event().wait()

    return run


def machine_on(kind: str, port: int, knobs: Knobs, registry_port: int) -> Serve:
    """Give what runs a machine, and registers it."""

    async def run(ready: Event) -> None:
        one = machine_of(kind, port, knobs)
        await one.start()
        await one.join(f"127.0.0.1:{registry_port}")
        ready.set()
        await asyncio.Event().wait()

    return run


def process_of(serve: Serve, ready: Event, lifeline: tuple[int, int]) -> BaseProcess:
    """Start a process that ends with this one, however this one ends."""

    def work() -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.close(lifeline[1])
        threading.Thread(target=_end_with, args=(lifeline[0],), daemon=True).start()
        try:
            asyncio.run(serve(ready))
        except OSError as error:
            print(f"error: {error}", file=sys.stderr, flush=True)
            os._exit(1)

    process = FORK.Process(target=work, daemon=True)
    process.start()
    return process


def _end_with(lifeline: int) -> None:
    os.read(lifeline, 1)  # nobody writes: it ends when the other end is closed
    os._exit(0)


def wait_for(ready: Event, process: BaseProcess, name: str) -> None:
    """Wait until a server is ready."""
    for _ in range(int(START_S * 10)):
        if ready.wait(0.1):
            return
        if not process.is_alive():
            sys.exit(f"{name} cannot start, see above")
    sys.exit(f"{name} is not ready after {START_S:g} s")


def main() -> None:
    """Start all, say where, begin anew what crashes."""
    parser = argparse.ArgumentParser(
        description=__doc__, parents=[options()], formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("first", type=int, nargs="?", default=4840, metavar="FIRST_PORT")
    parser.add_argument("--old", action="store_true", help="a second milling machine, an old one with a slow queue")
    given = parser.parse_args()
    quiet()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    standard_nodes()  # before the others begin: they have them, too
    lifeline = os.pipe()
    all_of_them = servers(given.first, given_in(given), given.old)
    running: dict[str, BaseProcess] = {}
    ready = {name: FORK.Event() for name in all_of_them}
    for name, serve in all_of_them.items():
        running[name] = process_of(serve, ready[name], lifeline)
        if name == "registry":
            wait_for(ready[name], running[name], name)
    for number, name in enumerate(running):
        wait_for(ready[name], running[name], name)
        print(f"{name} opc.tcp://127.0.0.1:{given.first + number}", flush=True)
    print("ready", flush=True)
    while True:
        ended = multiprocessing.connection.wait([one.sentinel for one in running.values()])
        for name, process in list(running.items()):
            if process.sentinel in ended:
                print(f"{name} has crashed; it is back in {BACK_AFTER_S:g} s", flush=True)
                threading.Event().wait(BACK_AFTER_S)
                ready[name].clear()
                running[name] = process_of(all_of_them[name], ready[name], lifeline)
                wait_for(ready[name], running[name], name)
                print(f"{name} is back", flush=True)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
