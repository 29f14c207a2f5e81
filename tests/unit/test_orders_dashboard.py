"""A dashboard that is none, or a bad one, costs posts and nothing else."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from itertools import repeat
from threading import Thread

import pytest

from tagwerk.actors.orders import dashboard
from tagwerk.actors.orders.dashboard import Poster, posted


@contextmanager
def answering(said: bytes, *, without_end: bool = False) -> Generator[str]:
    """Give the address of somebody who says this to everybody, byte by byte if it is without end."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection, suppress(OSError):
                    connection.recv(65_536)
                    connection.sendall(said)
                    for byte in repeat(b"X") if without_end else ():
                        connection.sendall(byte)
                        time.sleep(0.01)

        thread = Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
    thread.join(10)


def test_a_post_is_taken_by_an_answer_of_success() -> None:
    with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") as address:
        posted(f"{address}/log_event", b"{}")


@pytest.mark.parametrize(
    "said",
    [
        b"SSH-2.0-OpenSSH_9\r\n", b"", b"HTTP/1.1 500 Oops\r\n\r\n", b"HTTP/1.1 302 Found\r\nLocation: file:///\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000,
    ],
)  # fmt: skip
def test_any_other_answer_is_one_error(said: bytes) -> None:
    with answering(said) as address, pytest.raises(OSError, match=r"."):
        posted(f"{address}/log_event", b"{}")


@pytest.mark.parametrize("address", ["http://127.0.0.1:99999", "http://a..b:80", "http://", "http://127.0.0.1:x"])
def test_an_address_that_cannot_be_is_the_same_error(address: str) -> None:
    with pytest.raises(OSError, match=r"."):
        posted(f"{address}/log_event", b"{}")


def test_an_answer_without_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dashboard, "POST_LIMIT_S", 0.1)
    with answering(b"HTTP/1.1 ", without_end=True) as address, pytest.raises(OSError, match=r"."):
        posted(f"{address}/log_event", b"{}")


def test_what_is_no_dashboard_does_not_end_its_poster(caplog: pytest.LogCaptureFixture) -> None:
    async def told(address: str) -> None:
        poster = Poster(address)
        for _ in range(3):
            poster.put("log_event", {})
        await poster.close()

    with answering(b"SSH-2.0-OpenSSH_9\r\n") as address:
        asyncio.run(told(address))
    assert "3 messages did not reach the dashboard" in caplog.text
