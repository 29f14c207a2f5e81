"""The write request: several values in one message, each asked about until the last moment, each with its outcome."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from asyncua import ua
from asyncua.ua.ua_binary import struct_from_binary
from asyncua.ua.uaerrors import BadTooManyOperations, UaStatusCodeError

from tagwerk.actors.opcua import asyncua_mends as mends
from tagwerk.protocols.errors import Unknown

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from asyncua.client.client import Client

REQUEST_LIMIT_S: Final = 4.0


@dataclass(frozen=True, slots=True)
class Write:
    """One value; `may_send` is the last that is asked before it goes, and raises if it must not."""

    value: ua.WriteValue
    may_send: Callable[[], None]


class _Struck(Exception):  # noqa: N818  nothing was sent yet
    """Some of a request must not go: it is made again without them."""


async def write_together(
    client: Client, signed: Callable[[], None], writes: Sequence[Write]
) -> Sequence[int | Exception]:
    """Write, each at most once; give each one's StatusCode, or why it was not sent.

    Raises:
        NotSent: Nothing was handed over.
        Unknown: It was handed over, and no good answer came.
    """
    outcomes: dict[int, int | Exception] = {}
    left = list(range(len(writes)))

    def ask() -> None:
        before = len(outcomes)
        for place in left:
            try:
                writes[place].may_send()
            except Exception as error:  # it is this one's outcome
                outcomes[place] = error
        if len(outcomes) > before:
            raise _Struck

    while left := [place for place in range(len(writes)) if place not in outcomes]:
        try:
            found: Sequence[int | Exception] = await _send(client, signed, [writes[place].value for place in left], ask)
        except _Struck:
            continue
        except BadTooManyOperations as error:  # the server did nothing of it
            middle = len(left) // 2
            halves = ([writes[place] for place in part] for part in (left[:middle], left[middle:]))
            found = [one for half in halves for one in await _half(client, signed, half)] if middle else [error.code]
        outcomes.update(zip(left, found, strict=True))
    return [outcomes[place] for place in range(len(writes))]


async def _half(client: Client, signed: Callable[[], None], writes: Sequence[Write]) -> Sequence[int | Exception]:
    """A part of a request whose other part has an outcome of its own: what fails here is told of these alone."""
    try:
        return await write_together(client, signed, writes)
    except Exception as error:  # it is the outcome of each of these
        return [error for _ in writes]


async def _send(
    client: Client, signed: Callable[[], None], values: list[ua.WriteValue], ask: Callable[[], None]
) -> list[int]:
    message = ua.WriteRequest()
    message.Parameters.NodesToWrite = values
    try:
        data = await mends.send_last(client, message, REQUEST_LIMIT_S, ask)
        signed()
        response = struct_from_binary(ua.WriteResponse, data)
        response.ResponseHeader.ServiceResult.check()
        found = [int(result.value) for result in response.Results]
    except BadTooManyOperations:
        raise
    except UaStatusCodeError as error:
        return [int(error.code)] * len(values)
    except mends.NONSENSE as error:
        raise Unknown(f"the write was sent, and no answer came: {mends.reason(error)}") from error
    if len(found) != len(values):
        raise Unknown(f"the server answered {len(found)} of {len(values)} writes")
    return found
