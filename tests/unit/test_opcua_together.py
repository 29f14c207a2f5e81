"""What is asked for in one turn goes out as one request, and each hears what became of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest
from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.status_codes import StatusCodes
from asyncua.ua.ua_binary import struct_to_binary

from tagwerk.actors.opcua import asyncua_mends as mends
from tagwerk.actors.opcua.together import AT_ONCE, Together
from tagwerk.actors.opcua.write_request import Write, write_together
from tagwerk.protocols.errors import DeviceGone, NotSent, Unknown

TOO_MANY = StatusCodes.BadTooManyOperations


class Desk:
    """Carries requests out; each is a list of numbers, and odd ones fail."""

    def __init__(self, seconds: float = 0.0, error: Exception | None = None) -> None:
        self.requests: list[list[int]] = []
        self.tasks: list[asyncio.Task[None]] = []
        self._seconds = seconds
        self._error = error
        self.together = Together(self.send, self.spawn, lambda: DeviceGone("closed"))

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self.tasks.append(asyncio.get_running_loop().create_task(work))

    async def send(self, items: Sequence[int]) -> Sequence[str | Exception]:
        self.requests.append(list(items))
        await asyncio.sleep(self._seconds)
        if self._error is not None:
            raise self._error
        return [ValueError(str(item)) if item % 2 else str(item) for item in items]


def test_those_of_one_turn_are_one_request_with_an_outcome_each() -> None:
    async def live() -> tuple[Desk, list[Any]]:
        desk = Desk()
        found = await asyncio.gather(*(desk.together.do(number) for number in range(4)), return_exceptions=True)
        found.append(await desk.together.do(4))
        return desk, found

    desk, found = asyncio.run(live())
    assert desk.requests == [[0, 1, 2, 3], [4]]
    assert [str(one) for one in found] == ["0", "1", "2", "3", "4"]
    assert [type(one) for one in found] == [str, ValueError, str, ValueError, str]


def test_a_request_is_bounded() -> None:
    async def live() -> Desk:
        desk = Desk()
        await asyncio.gather(*(desk.together.do(2 * number) for number in range(2 * AT_ONCE + 1)))
        return desk

    assert [len(one) for one in asyncio.run(live()).requests] == [AT_ONCE, AT_ONCE, 1]


def test_what_a_request_raises_goes_to_all_of_it() -> None:
    async def live() -> list[Any]:
        desk = Desk(error=DeviceGone("broke"))
        return await asyncio.gather(*(desk.together.do(number) for number in range(3)), return_exceptions=True)

    assert [str(one) for one in asyncio.run(live())] == ["broke"] * 3


def test_what_is_cancelled_before_it_goes_does_not_go() -> None:
    async def live() -> Desk:
        desk = Desk()
        first = asyncio.ensure_future(desk.together.do(2))
        second = asyncio.ensure_future(desk.together.do(4))
        await asyncio.sleep(0)
        first.cancel()
        await second
        return desk

    assert asyncio.run(live()).requests == [[4]]


def test_who_waits_hears_that_the_session_was_closed() -> None:
    async def live() -> list[Any]:
        desk = Desk(seconds=60.0)
        waiting = asyncio.gather(*(desk.together.do(number) for number in range(2)), return_exceptions=True)
        while not desk.requests:
            await asyncio.sleep(0)
        for task in desk.tasks:
            task.cancel()
        return await waiting

    assert [type(one) for one in asyncio.run(live())] == [DeviceGone, DeviceGone]


class Server:
    """Takes at most `limit` values in one request; the status of a value is its number."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, limit: int = 100, short: bool = False) -> None:
        self.taken: list[list[int]] = []
        self._limit = limit
        self._short = short
        monkeypatch.setattr(mends, "send_last", self.send)

    async def send(self, client: object, message: Any, timeout_s: float, may_send: Callable[[], None]) -> Buffer:
        may_send()
        numbers = [int(value.Value.Value.Value) for value in message.Parameters.NodesToWrite]
        response = ua.WriteResponse()
        if len(numbers) > self._limit:
            response.ResponseHeader.ServiceResult = ua.StatusCode(ua.UInt32(TOO_MANY))
        else:
            self.taken.append(numbers)
            response.Results = [ua.StatusCode(ua.UInt32(number)) for number in numbers[: -1 if self._short else None]]
        return Buffer(struct_to_binary(response))


def a_write(number: int, refuse: Exception | None = None) -> Write:
    def may_send() -> None:
        if refuse is not None:
            raise refuse

    value = ua.WriteValue()
    value.Value = ua.DataValue(ua.Variant(number, ua.VariantType.Int32))
    return Write(value, may_send)


def written(*writes: Write) -> Sequence[int | Exception]:
    return asyncio.run(write_together(None, lambda: None, writes))  # type: ignore[arg-type]


def test_each_write_has_its_status(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(monkeypatch)
    assert written(a_write(1), a_write(0), a_write(3)) == [1, 0, 3]
    assert server.taken == [[1, 0, 3]]


def test_a_write_that_must_not_go_is_left_out_at_the_last_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(monkeypatch)
    late = NotSent("late")
    assert written(a_write(1), a_write(2, late), a_write(3)) == [1, late, 3]
    assert server.taken == [[1, 3]]
    assert written(a_write(1, late)) == [late]
    assert server.taken == [[1, 3]]


@pytest.mark.parametrize(("limit", "requests"), [(2, [[0, 1], [2], [3, 4]]), (1, [[0], [1], [2], [3], [4]])])
def test_a_server_that_takes_few_at_a_time_gets_them_so(
    monkeypatch: pytest.MonkeyPatch, limit: int, requests: list[list[int]]
) -> None:
    server = Server(monkeypatch, limit)
    assert written(*(a_write(number) for number in range(5))) == [0, 1, 2, 3, 4]
    assert sorted(map(sorted, server.taken)) == sorted(requests)


def test_a_server_that_takes_none_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    Server(monkeypatch, 0)
    assert written(a_write(1), a_write(2)) == [TOO_MANY] * 2


def test_an_answer_that_does_not_fit_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    Server(monkeypatch, short=True)
    with pytest.raises(Unknown, match="1 of 2"):
        written(a_write(1), a_write(2))
