"""`tagwerk engine` against real OPC UA servers: the simulated workshop, a process a machine."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import workshop_rig
from workshop_rig import (
    ORDER,
    QUICK,
    ROOT,
    START_S,
    STRUCTS,
    WAIT_S,
    Tunnel,
    Workshop,
    a_order,
    call,
    engine,
    free_ports,
    indented,
    run,
    task,
)

from tagwerk.actors.orders.engine import Engine, Progress, Told
from tagwerk.actors.orders.logic.calls import Phase
from tagwerk.actors.orders.logic.engine_keys import read_keys
from tagwerk.actors.orders.logic.pfdl import read
from tagwerk.actors.orders.logic.pfdl.talk import OrderState
from tagwerk.actors.orders.session import quiet_asyncua
from tagwerk.runtime.cli.app import run as cli

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def workshop() -> Iterator[Workshop]:
    quiet_asyncua()
    workshop = Workshop()
    try:
        workshop.lines("ready", START_S)
        yield workshop
    finally:
        workshop.end()


def test_one_file_from_the_command_line(workshop: Workshop, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "order.pfdl"
    first = call("Milling", workshop.at("oldMilling"), a_order())
    inspect = call("Inspect", workshop.at("mounting"), "order", out="found: Inspection")
    file.write_text(STRUCTS + task(first, inspect))
    workshop.lines()
    assert cli(["engine", f"opc.tcp://127.0.0.1:{free_ports(1)}", str(file), "log_info=true"]) == 0
    out = capfd.readouterr().out.splitlines()
    assert out[-1] == "Execution Engine Completed the Process Execution"
    assert [line for line in out if "Milling" in line and "queued at" in line]
    calls = [json.loads(line) for line in workshop.lines('"call": "Inspect"', WAIT_S)]
    assert calls == [
        {"call": "Milling", "at": "oldMilling", "inputs": {"order": ORDER}},
        {"call": "Inspect", "at": "mounting", "inputs": {"order": ORDER}},
    ]
    workshop.settled()


def test_what_is_wrong_before_anything_begins(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    unsound, sound = tmp_path / "unsound.pfdl", tmp_path / "sound.pfdl"
    unsound.write_text("Task productionTask\n    Mill\n        In\n            nothing\nEnd\n")
    sound.write_text(STRUCTS + task(call("Milling", a_order())))
    url = f"opc.tcp://127.0.0.1:{free_ports(1)}"
    assert cli(["engine", url, str(unsound)]) == 2
    assert cli(["engine", url, str(sound), "docker=1"]) == 2
    assert cli(["engine", "localhost", str(sound)]) == 2
    assert "4:13" in capsys.readouterr().err


def test_a_variable_that_is_set_again_is_seen(workshop: Workshop) -> None:
    # The original never ends here: it reads what a variable was first.
    first = call("Polish", workshop.at("milling"), "surface.roughness", out="roughness: number")
    again = call("Polish", workshop.at("milling"), "roughness", out="roughness: number")
    loop = f"    Loop While roughness > 0\n{indented(again)}"
    inner = f"Task polish\n    In\n        surface: Surface\n{first}{loop}End\n"
    end = run(task(call("polish", 'Surface {"roughness": 3}', out="")) + inner)
    assert end.state is OrderState.FINISHED, end.reason


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("invalid", "refused its parameters"),
        ("fail", "FAIL"),
        ("missing", "gave no `order`"),
        ("wrong", "order"),
        ("bad", "BadInvalidState"),
    ],
)
def test_a_failure_fails_the_order_and_frees_the_resource(workshop: Workshop, fault: str, reason: str) -> None:
    workshop.turn("milling", "NextFault", fault)
    end = run(task(call("Milling", workshop.at("milling"), a_order())))
    assert end.state is OrderState.FAILED
    assert reason in end.reason
    assert workshop.seen("milling") == (0, 4)


def test_a_service_that_nobody_offers(workshop: Workshop) -> None:
    end = run(task(call("Milling", workshop.at("coating"), a_order())))
    assert end.state is OrderState.FAILED
    assert "has no service Milling" in end.reason


def test_a_value_that_does_not_fit_is_never_called(workshop: Workshop) -> None:
    workshop.lines()
    end = run(task(call("Milling", workshop.at("milling"), 'Surface {"roughness": 1}')))
    assert "wants `order`, a SWAP_Order" in end.reason
    assert workshop.seen("milling") == (0, 4)
    assert workshop.lines() == []


def test_a_timeout_fails_the_service_and_frees_the_resource(workshop: Workshop) -> None:
    workshop.turn("milling", "NextFault", "silent")
    end = run(task(call("Milling", workshop.at("milling"), a_order(), more="Timeout 0.3")))
    assert (end.state, end.reason) == (OrderState.FAILED, "Milling: not finished within 0.3 s")
    assert workshop.seen("milling") == (0, 4)


def test_a_resource_that_is_not_there(workshop: Workshop) -> None:
    nowhere = f'ResourceAssignment {{"job_resource": "opc.tcp://127.0.0.1:{free_ports(1)}"}}'
    end = run(task(call("Milling", nowhere, a_order())))
    assert end.state is OrderState.FAILED
    assert "cannot be reached" in end.reason
    assert "the engine knows no device registry" in run(task(call("Milling", a_order()))).reason


def called_at(told: list[Told]) -> list[str]:
    return [one.url for one in told if isinstance(one, Progress) and one.phase is Phase.CALLED]


def test_resources_are_assigned(workshop: Workshop) -> None:
    registry = f"device_registry_url={workshop.registry}"
    told: list[Told] = []
    agent = f'AssignmentAgent {{"agent": "{workshop.agent}"}}'
    wide = 'Milling_Capabilities {"diameter": 80}'
    calls = (
        call("Milling", a_order()),  # the first one of those with the shortest queue
        call("Milling", "order", agent),  # the agent of this example takes the last one
        call("Milling", "order", agent, wide),  # only one of them can do it
        call("Gluing", "order"),  # only one offers it
    )
    end = run(task(*calls), registry, "custom_url=opc.tcp://localhost:", tell=told.append)
    assert end.state is OrderState.FINISHED, end.reason
    used = ("milling", "oldMilling", "milling", "gluing")
    assert called_at(told) == [f"opc.tcp://localhost:{workshop.ports[name]}" for name in used]
    end = run(task(call("Milling", a_order(), 'Milling_Capabilities {"diameter": 800}')), registry)
    assert "knows no resource for Milling with diameter = 800.0" in end.reason


@pytest.mark.parametrize("name", ["part", "lamp", "drying", "polishing", "assigned"])
def test_the_orders_of_the_workshop_run_there(workshop: Workshop, name: str) -> None:
    text = (ROOT / f"examples/workshop/orders/{name}.pfdl").read_text()
    text = re.sub(r"127\.0\.0\.1:484(\d)", lambda found: f"127.0.0.1:{workshop.first + int(found[1])}", text)
    keys = read_keys([f"device_registry_url={workshop.registry}"])
    end = asyncio.run(Engine(read(text), "", text, keys, lambda _: None, patience=QUICK).run())
    assert end.state is OrderState.FINISHED, end.reason
    workshop.settled()


def test_an_event_after_a_lost_session_still_counts(workshop: Workshop) -> None:
    with Tunnel(workshop.ports["milling"]) as tunnel, workshop.held("milling"):
        steps = iter((tunnel.cut, lambda: workshop.release("milling")))

        def tell(one: Told) -> None:
            if isinstance(one, Progress) and one.phase is Phase.ACCEPTED:
                next(steps)()  # once before, once again with the new session

        at = f'ResourceAssignment {{"job_resource": "{tunnel.url}"}}'
        end = run(task(call("Milling", at, a_order())), tell=tell)
    assert end.state is OrderState.FINISHED, end.reason
    assert workshop.seen("milling") == (0, 4)


def test_an_answer_that_was_lost_is_unknown_and_never_asked_for_again(workshop: Workshop) -> None:
    workshop.lines()
    with (
        Tunnel(workshop.ports["mounting"]) as tunnel,
        workshop.held("mounting"),
        ThreadPoolExecutor(1) as beside,
    ):
        at = f'ResourceAssignment {{"job_resource": "{tunnel.url}"}}'
        inspect = call("Inspect", at, a_order(), out="found: Inspection", more="Retry 2")
        running = beside.submit(run, task(inspect))
        workshop.called("Inspect")
        tunnel.cut()
        end = running.result()
    assert end.state is OrderState.CANCELLED
    assert "the session was lost while Inspect was executed" in end.reason
    assert workshop.lines() == []
    assert workshop.seen("mounting") == (0, 5)  # nobody knows whether it still moves
    workshop.reset("mounting")


def test_what_a_dead_engine_left_in_a_queue_is_removed(workshop: Workshop) -> None:
    text = task(call("Milling", workshop.at("milling"), a_order()))
    with workshop.held("milling"):
        with subprocess.Popen([sys.executable, workshop_rig.__file__, text]) as dead:
            workshop.called("Milling")
            dead.kill()
        assert workshop.seen("milling") == (1, 5)
        end = run(text)
    assert "EXECUTING, not IDLE" in end.reason  # what the dead one called may still go on
    assert workshop.seen("milling") == (0, 5)
    workshop.reset("milling")


def test_a_run_that_is_stopped_frees_the_resource(workshop: Workshop) -> None:
    told: list[Told] = []
    machine = engine(task(call("Milling", workshop.at("milling"), a_order())), tell=told.append)

    async def stopped() -> None:
        running = asyncio.create_task(machine.run())
        async with asyncio.timeout(WAIT_S):
            while not any(isinstance(one, Progress) and one.phase is Phase.ACCEPTED for one in told):
                await asyncio.sleep(0.02)
        running.cancel()  # what Ctrl-C does
        workshop.release("milling")
        await asyncio.wait({running})
        assert running.cancelled()

    with workshop.held("milling"):
        asyncio.run(stopped())
    assert workshop.seen("milling") == (0, 4)


def test_a_machine_that_crashes_ends_the_order_and_comes_back(workshop: Workshop) -> None:
    text = task(call("Coating", workshop.at("coating"), a_order(), more="Retry 2"))
    workshop.turn("coating", "NextFault", "crash")
    end = run(text)
    assert end.state is OrderState.CANCELLED
    assert "nobody knows" in end.reason or "was lost" in end.reason
    workshop.lines("coating is back", WAIT_S)
    end = run(task(call("Coating", a_order())), f"device_registry_url={workshop.registry}")
    assert end.state is OrderState.FINISHED, end.reason
