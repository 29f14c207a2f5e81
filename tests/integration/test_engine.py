"""`tagwerk engine` against real OPC UA servers: a simulated shop floor in a process of its own."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import shopfloor_rig
from asyncua.client.client import Client
from shopfloor_rig import (
    ORDER,
    START_S,
    STRUCTS,
    WAIT_S,
    Floor,
    Tunnel,
    a_order,
    call,
    engine,
    free_ports,
    indented,
    run,
    task,
)

from tagwerk.actors.orders.engine import Progress, Told
from tagwerk.actors.orders.logic.calls import Phase
from tagwerk.actors.orders.logic.pfdl.talk import OrderState, TaskFinished
from tagwerk.actors.orders.session import quiet_asyncua
from tagwerk.runtime.cli.app import run as cli

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def floor() -> Iterator[Floor]:
    quiet_asyncua()
    floor = Floor()
    try:
        floor.lines("ready", START_S)
        yield floor
    finally:
        floor.end()


def test_one_file_from_the_command_line(floor: Floor, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "order.pfdl"
    first = call("GetPartsFromWarehouse", floor.at("milling"), a_order())
    file.write_text(STRUCTS + task(first, call("Milling", floor.at("old"), "order")))
    floor.settle()
    assert cli(["engine", f"opc.tcp://127.0.0.1:{free_ports(1)}", str(file), "log_info=true"]) == 0
    out = capfd.readouterr().out.splitlines()
    assert out[-1] == "Execution Engine Completed the Process Execution"
    assert [line for line in out if "GetParts" in line and "queued at" in line]
    calls = [json.loads(line) for line in floor.lines(within_s=0.5) if line.startswith("{")]
    assert [one["call"] for one in calls] == ["GetPartsFromWarehouse", "Milling"]
    assert calls[1]["inputs"] == {"order": ORDER}
    assert floor.seen("old") == (0, 4)
    assert floor.seen("milling") == (0, 4)


def test_what_is_wrong_before_anything_begins(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    unsound, sound = tmp_path / "unsound.pfdl", tmp_path / "sound.pfdl"
    unsound.write_text("Task productionTask\n    Mill\n        In\n            nothing\nEnd\n")
    sound.write_text(STRUCTS + task(call("Milling", a_order())))
    url = f"opc.tcp://127.0.0.1:{free_ports(1)}"
    assert cli(["engine", url, str(unsound)]) == 2
    assert cli(["engine", url, str(sound), "docker=1"]) == 2
    assert cli(["engine", "localhost", str(sound)]) == 2
    assert "4:13" in capsys.readouterr().err


def test_a_variable_that_is_set_again_is_seen(floor: Floor) -> None:
    # The original never ends here: it reads what a variable was first.
    count = call("Count", floor.at("milling"), "c.count", out="count: number")
    again = call("Count", floor.at("milling"), "count", out="count: number")
    inner = f"Task countdown\n    In\n        c: Counter\n{count}    Loop While count > 0\n{indented(again)}End\n"
    end = run(task(call("countdown", 'Counter {"count": 3}', out="")) + inner)
    assert end.state is OrderState.FINISHED, end.reason


@pytest.mark.parametrize(
    ("service", "reason"),
    [
        ("Invalid", "refused its parameters"),
        ("Fail", "FAIL"),
        ("Missing", "gave no `order`"),
        ("Bad", "BadInvalidState"),
        ("Unheard", "has no service Unheard"),
    ],
)
def test_a_failure_fails_the_order_and_frees_the_resource(floor: Floor, service: str, reason: str) -> None:
    end = run(task(call(service, floor.at("milling"), a_order())))
    assert end.state is OrderState.FAILED
    assert reason in end.reason
    assert floor.seen("milling") == (0, 4)


def test_a_value_that_does_not_fit_is_never_called(floor: Floor) -> None:
    floor.settle()
    end = run(task(call("Milling", floor.at("milling"), 'Counter {"count": 1}')))
    assert "wants `order`, a SWAP_Order" in end.reason
    assert floor.lines(within_s=0.2) == []


def test_a_timeout_fails_the_service_and_frees_the_resource(floor: Floor) -> None:
    end = run(task(call("Silent", floor.at("milling"), a_order(), more="Timeout 0.3")))
    assert (end.state, end.reason) == (OrderState.FAILED, "Silent: not finished within 0.3 s")
    assert floor.seen("milling") == (0, 4)


def test_a_resource_that_is_not_there(floor: Floor) -> None:
    nowhere = f'ResourceAssignment {{"job_resource": "opc.tcp://127.0.0.1:{free_ports(1)}"}}'
    end = run(task(call("Milling", nowhere, a_order())))
    assert end.state is OrderState.FAILED
    assert "cannot be reached" in end.reason
    assert "the engine knows no device registry" in run(task(call("Milling", a_order()))).reason


def milled_at(told: list[Told]) -> list[str]:
    return [one.url for one in told if isinstance(one, Progress) and one.phase is Phase.CALLED]


def test_resources_are_assigned(floor: Floor) -> None:
    registry = f"device_registry_url={floor.registry}"
    told: list[Told] = []
    agent = f'AssignmentAgent {{"agent": "{floor.agent}"}}'
    wide = 'Milling_Capabilities {"diameter": 80}'
    calls = (
        call("Milling", a_order()),  # the first one of those with the shortest queue
        call("Milling", "order", agent),  # the agent of this example takes the last one
        call("Milling", "order", agent, wide),  # only one of them can do it
        call("Gluing", "order"),  # only the other one offers it
    )
    end = run(task(*calls), registry, "custom_url=opc.tcp://localhost:", tell=told.append)
    assert end.state is OrderState.FINISHED, end.reason
    milling, old = (f"opc.tcp://localhost:{floor.ports[name]}" for name in ("milling", "old"))
    assert milled_at(told) == [milling, old, milling, old]
    end = run(task(call("Milling", a_order(), 'Milling_Capabilities {"diameter": 800}')), registry)
    assert "knows no resource for Milling with diameter = 800.0" in end.reason


def test_services_run_side_by_side_and_an_observer_sees_them(floor: Floor) -> None:
    held = f"Task held\n    In\n        order: SWAP_Order\n{call('Held', floor.at('milling'), 'order', out='')}End\n"
    quick = held.replace("held", "quick").replace("Held", "Milling").replace(floor.url("milling"), floor.url("old"))
    parallel = "    Parallel\n" + indented(call("held", a_order(), out="") + call("quick", a_order(), out=""))
    told: list[Told] = []
    url = f"opc.tcp://127.0.0.1:{free_ports(1)}"
    machine = engine(task(parallel) + held + quick, tell=told.append, url=url)

    def is_held() -> bool:
        finished = any(isinstance(one, TaskFinished) and one.name == "quick" for one in told)
        return finished and any(isinstance(one, Progress) and one.phase is Phase.ACCEPTED for one in told)

    async def both() -> dict[str, object]:
        running = asyncio.create_task(machine.run())
        async with asyncio.timeout(WAIT_S):
            while not is_held():
                await asyncio.sleep(0.02)
        found = await observed(url)
        floor.release()
        end = await running
        assert end.state is OrderState.FINISHED, end.reason
        return found

    found = asyncio.run(both())
    assert found == {"productionTask": "Initial", "held": "ExecutionInProgess", "order_id": 1000}


async def observed(url: str) -> dict[str, object]:
    """Read the data object as a client without any knowledge does: the states of tasks, and what they work on."""
    async with Client(url) as client:
        await client.load_data_type_definitions()
        assert await client.get_namespace_index("http://exection_engine.fraunhofer.iosb.de") == 2  # its spelling
        found: dict[str, object] = {}
        left = await (await client.nodes.objects.get_child("2:LifeCycleObject")).get_children()
        while left:
            node = left.pop()
            names = {str((await one.read_browse_name()).Name): one for one in await node.get_children()}
            if "TaskName" in names:
                found[await names["TaskName"].read_value()] = await names["StateVariable"].read_value()
                left += names.values()
            if "order" in names:
                found["order_id"] = (await names["order"].read_value()).order_id
        return found


def test_an_event_after_a_lost_session_still_counts(floor: Floor) -> None:
    with Tunnel(floor.ports["milling"]) as tunnel:
        steps = iter((tunnel.cut, floor.release))

        def tell(one: Told) -> None:
            if isinstance(one, Progress) and one.phase is Phase.ACCEPTED:
                next(steps)()  # once before, once again with the new session

        at = f'ResourceAssignment {{"job_resource": "{tunnel.url}"}}'
        end = run(task(call("Held", at, a_order())), tell=tell)
    assert end.state is OrderState.FINISHED, end.reason
    assert floor.seen("milling") == (0, 4)


def test_an_answer_that_was_lost_is_unknown_and_never_asked_for_again(floor: Floor) -> None:
    floor.settle()
    with Tunnel(floor.ports["milling"]) as tunnel, ThreadPoolExecutor(1) as beside:
        at = f'ResourceAssignment {{"job_resource": "{tunnel.url}"}}'
        running = beside.submit(run, task(call("HeldSync", at, a_order(), more="Retry 2")))
        floor.called("HeldSync")
        tunnel.cut()
        end = running.result()
    assert end.state is OrderState.CANCELLED
    assert "the session was lost while HeldSync was executed" in end.reason
    assert floor.lines() == []
    assert floor.seen("milling") == (0, 5)  # nobody knows whether it still moves
    floor.release()
    floor.reset("milling")


def test_what_a_dead_engine_left_in_a_queue_is_removed(floor: Floor) -> None:
    text = task(call("Held", floor.at("milling"), a_order()))
    floor.settle()
    with subprocess.Popen([sys.executable, shopfloor_rig.__file__, text]) as dead:
        floor.called("Held")
        dead.kill()
    assert floor.seen("milling") == (1, 5)
    end = run(text)
    assert "EXECUTING, not IDLE" in end.reason  # what the dead one called may still go on
    assert floor.seen("milling") == (0, 5)
    floor.release()
    floor.reset("milling")


def test_a_run_that_is_stopped_frees_the_resource(floor: Floor) -> None:
    told: list[Told] = []
    machine = engine(task(call("Held", floor.at("milling"), a_order())), tell=told.append)

    async def stopped() -> None:
        running = asyncio.create_task(machine.run())
        async with asyncio.timeout(WAIT_S):
            while not any(isinstance(one, Progress) and one.phase is Phase.ACCEPTED for one in told):
                await asyncio.sleep(0.02)
        running.cancel()  # what Ctrl-C does
        floor.release()
        await asyncio.wait({running})
        assert running.cancelled()

    asyncio.run(stopped())
    assert floor.seen("milling") == (0, 4)
