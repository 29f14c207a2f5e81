"""What fits a service, what it says, and who is to execute it."""

from __future__ import annotations

from typing import Any

import pytest

from tagwerk.actors.orders.logic.assignment import (
    Wanted,
    least_loaded,
    wanted,
    with_prefix,
    with_scheme,
    without_scheme,
)
from tagwerk.actors.orders.logic.engine_keys import Keys, read_keys
from tagwerk.actors.orders.logic.pfdl.talk import Output, Parameter
from tagwerk.actors.orders.logic.queues import (
    Element,
    Seen,
    client_identifier,
    elements,
    engine_plant,
    left_behind,
    state_name,
)
from tagwerk.actors.orders.logic.services import (
    Argument,
    Failure,
    Service,
    ServiceFault,
    check_status,
    check_trigger,
    is_ours,
    matched,
    outputs_of,
    pfdl_type,
)
from tagwerk.protocols.errors import ConfigErrors


def argument(name: str, type_: str, array: bool = False) -> Argument:
    return Argument(name, type_, array, type_)


def service(*inputs: Argument, outputs: tuple[Argument, ...] = ()) -> Service:
    return Service("Cut", inputs, outputs, True)


def test_inputs_are_matched_by_name_then_by_type() -> None:
    one = service(argument("b", "Part"), argument("x", "Part"), argument("n", "number"))
    given = [Parameter("", "Part", "literal"), Parameter("a", "Part", "a"), Parameter("b", "Part", "b")]
    assert matched(one, [*given, Parameter("o.n", "number", 3)]) == ["b", "literal", 3]


def test_arrays_match_arrays_whatever_their_length() -> None:
    one = service(argument("p", "number", True))
    assert matched(one, [Parameter("n", "number", 1), Parameter("ps", "number[3]", [1, 2, 3])]) == [[1, 2, 3]]


def test_an_argument_without_a_value_is_no_call() -> None:
    with pytest.raises(ServiceFault, match="wants `b`, a Part; the order gives a: Other") as caught:
        matched(service(argument("b", "Part")), [Parameter("a", "Other", {})])
    assert caught.value.failure is Failure.REJECTED


@pytest.mark.parametrize(("ua", "pfdl"), [("Double", "number"), ("Int16", "number"), ("String", "string"), ("X", "X")])
def test_types_have_names_in_both_worlds(ua: str, pfdl: str) -> None:
    assert pfdl_type(ua) == pfdl


def test_outputs_are_found_by_name_then_by_a_type_that_is_there_once() -> None:
    one = service(outputs=(argument("order", "Order"), argument("other", "Part"), argument("n", "number")))
    result = {"order": {"id": 1}, "other": {"p": 1}, "n": 5}
    wanted_ = (Output("order", "Order"), Output("mine", "Part"), Output("n", "number"))
    assert outputs_of(one, wanted_, result) == {"order": {"id": 1}, "mine": {"p": 1}, "n": 5}
    for missing in (Output("m", "number"), Output("x", "Nothing"), Output("order", "Part[]")):
        with pytest.raises(ServiceFault) as caught:
            outputs_of(one, (missing,), result)
        assert caught.value.failure is Failure.BAD_OUTPUT
    with pytest.raises(ServiceFault):
        outputs_of(one, (Output("order", "Order"),), {"order": None})


def test_what_a_resource_says_of_itself_is_believed() -> None:
    check_trigger("Cut", {"ServiceTriggerResult": 1})
    check_status("Cut", {"ServiceExecutionStatus": 0}, "ServiceExecutionStatus")
    check_status("Cut", {}, "ServiceExecutionStatus")
    with pytest.raises(ServiceFault, match=r"refused its parameters: too long \(code 7\)"):
        check_trigger("Cut", {"ServiceTriggerResult": 0, "ServiceResultMessage": "too long", "ServiceResultCode": 7})
    with pytest.raises(ServiceFault, match="FAIL"):
        check_status("Cut", {"ServiceExecutionResult": 1}, "ServiceExecutionResult")


@pytest.mark.parametrize(
    ("event", "ours"),
    [
        ({}, True),
        ({"service_uuid": "", "task_uuid": None}, True),
        ({"service_uuid": "s", "task_uuid": "t"}, True),
        ({"service_uuid": "other"}, False),
        ({"service_uuid": "s", "task_uuid": "other"}, False),
    ],
)
def test_an_event_is_of_this_call(event: dict[str, Any], ours: bool) -> None:
    assert is_ours(event, "s", "t") is ours


def element(client: str, place: int) -> dict[str, Any]:
    return {"Client_Identifier": client, "Service_UUID": "u", "Entry_Number": place}


def test_an_empty_queue_is_null_or_one_empty_element() -> None:
    assert elements(None) == elements(element("", 0)) == elements([]) == ()
    assert elements({"Client_Identifier": None, "Service_UUID": None, "Entry_Number": None}) == ()
    found = elements([element("b", 2), element("a", 1)])
    assert [one.client for one in found] == ["a", "b"]
    seen = Seen(found, 4)
    assert (seen.place_of("b", "u"), seen.place_of("b", "v")) == (2, 0)
    assert (state_name(4), state_name(9), state_name(None)) == ("IDLE", "AssetState 9", "AssetState None")


def test_only_what_a_dead_engine_of_this_host_left_is_ours_to_remove() -> None:
    def of(host: str, pid: int) -> Element:
        return Element(client_identifier(engine_plant(host, pid, 7), "o", 1), "u", 1)

    dead, alive, foreign = of("my-host:1", 1), of("my-host:1", 2), of("host", 1)
    others = [Element("tagwerk:plant:o:1", "u", 1), Element("0b3d", "u", 1), Element("tagwerk:engine-x:o", "u", 1)]
    queue = [dead, alive, foreign, *others]
    assert left_behind(queue, "my-host:1", lambda pid, started: (pid, started) == (2, 7)) == [dead]


def test_steering_structs_go_before_what_the_engine_was_told() -> None:
    assert wanted("Cut", [], "r", "a") == Wanted("", "r", "a")
    inputs = [
        Parameter("", "DeviceRegistry", {"registry": "r2"}),
        Parameter("", "AssignmentAgent", {"agent": "a2"}),
        Parameter("", "ResourceAssignment", {"job_resource": "u"}),
        Parameter("", "Cut_Capabilities", {"d": 90, "new": False}),
        Parameter("", "Other_Capabilities", {"d": 1}),
    ]
    found = wanted("Cut", inputs, "r", "a")
    assert found == Wanted("u", "r2", "a2", (("d", "90.0"), ("new", "False")))
    assert found.filter() == (["d", "new"], ["90.0", "False"])
    assert Wanted().filter() == (["None"], ["None"])


def test_urls() -> None:
    assert least_loaded([("a", 2), ("b", 1), ("c", 1)]) == "b"
    assert with_prefix("opc.tcp://mill:4840", "opc.tcp://localhost:") == "opc.tcp://localhost:4840"
    assert with_prefix("opc.tcp://mill:4840", "") == "opc.tcp://mill:4840"
    assert with_scheme("mill:1") == with_scheme("opc.tcp://mill:1") == "opc.tcp://mill:1"
    assert without_scheme("opc.tcp://mill:1/") == "mill:1"


def test_the_keys_of_the_engine() -> None:
    assert read_keys([]) == Keys()
    given = ["log_info=False", "custom_url=opc.tcp://a=b:", "number_default_clients=3", "delay_start=0.5"]
    assert read_keys(given) == Keys(custom_url="opc.tcp://a=b:", number_default_clients=3, delay_start=0.5)


@pytest.mark.parametrize(
    "argument_",
    ["log_info", "log_info=maybe", "docker=1", "number_default_clients=-1", "delay_start=nan", "delay_start=soon",
     "device_registry_url=", "dashboard_host_address=localhost:8080"],
)  # fmt: skip
def test_a_wrong_key_is_told(argument_: str) -> None:
    with pytest.raises(ConfigErrors):
        read_keys([argument_])


def test_a_key_stands_there_once() -> None:
    with pytest.raises(ConfigErrors, match="twice"):
        read_keys(["log_info=1", "log_info=1"])
