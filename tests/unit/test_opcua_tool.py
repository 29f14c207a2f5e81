"""What the tool refuses before it asks a server, and how it ends when time is over."""

from __future__ import annotations

import asyncio

import pytest

from tagwerk.actors.opcua import asyncua_mends as mends
from tagwerk.actors.opcua import tool
from tagwerk.protocols.errors import ConfigError, Refused, RefusedCode


@pytest.mark.parametrize("url", ["", "http://plc", "opc.tcp://", "opc.tcp://plc:99999", "plc:4840"])
def test_what_is_no_address_is_refused_with_what_would_be(url: str) -> None:
    for call in (tool.discover(url), tool.read(url, "i=1"), tool.write(url, "i=1", "1")):
        with pytest.raises(ConfigError) as raised:
            asyncio.run(call)
        assert (raised.value.value, raised.value.key) == (url, "URL")
        assert "opc.tcp://HOST:PORT" in raised.value.expected


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "1e400"])
def test_only_finite_numbers_are_written(text: str) -> None:
    with pytest.raises(Refused) as raised:
        tool._from_text(text, "Double")  # pyright: ignore[reportPrivateUsage]
    assert raised.value.code == RefusedCode.BAD_VALUE


def test_an_answer_in_the_moment_of_a_timeout_is_a_timeout() -> None:
    class WithResult(asyncio.CancelledError):
        """What wait_for2 raises."""

    async def answered_late() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError as error:
            raise WithResult from error

    async def story() -> None:
        async with asyncio.timeout(0):
            with mends.plain_cancellation():
                await answered_late()

    with pytest.raises(TimeoutError):
        asyncio.run(story())
