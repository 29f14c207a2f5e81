"""The numbered link: windows, going back, and links that are opened again."""

from __future__ import annotations

import pytest

from tagwerk.protocols.errors import LocalProtocolError, RemoteProtocolError
from tagwerk.protocols.link import Arrival, ReceiveCounter, SendWindow


def window(items: str, *, sent: int | None = None, limit: int = 10) -> SendWindow[str]:
    made: SendWindow[str] = SendWindow(limit)
    for item in items:
        made.push(item)
    for _ in range(len(items) if sent is None else sent):
        made.sent()
    return made


def send_all(made: SendWindow[str]) -> list[tuple[int, str]]:
    out: list[tuple[int, str]] = []
    while (turn := made.to_send()) is not None:
        out.append(turn)
        made.sent()
    return out


class TestWindow:
    def test_numbers_rise_from_one(self) -> None:
        made: SendWindow[str] = SendWindow(3)
        assert [made.push(item) for item in "abc"] == [1, 2, 3]
        assert made.full
        assert (made.first_number, made.next_number, len(made)) == (1, 4, 3)
        assert send_all(made) == [(1, "a"), (2, "b"), (3, "c")]
        assert made.to_send() is None

    def test_a_full_window_takes_nothing(self) -> None:
        with pytest.raises(LocalProtocolError, match="full"):
            window("ab", limit=2).push("c")

    def test_acknowledgement_is_cumulative(self) -> None:
        made = window("abcd")
        assert made.acknowledge(2) == ["a", "b"]
        assert made.acknowledge(1) == []
        assert made.acknowledge(2) == []
        assert made.acknowledge(4) == ["c", "d"]
        assert len(made) == 0

    def test_what_was_never_sent_cannot_be_acknowledged(self) -> None:
        made = window("abc", sent=2)
        with pytest.raises(RemoteProtocolError, match="only 2 were sent"):
            made.acknowledge(3)
        assert list(made.unsent()) == ["c"]
        assert list(made.waiting()) == ["a", "b", "c"]

    def test_going_back_sends_again(self) -> None:
        made = window("abcd")
        made.acknowledge(1)
        made.go_back(3)
        assert send_all(made) == [(3, "c"), (4, "d")]
        made.go_back(5)
        assert made.to_send() is None

    @pytest.mark.parametrize("expected", [0, 1, 6])
    def test_going_back_to_what_does_not_wait_is_the_peers_fault(self, expected: int) -> None:
        made = window("abcd")
        made.acknowledge(1)
        with pytest.raises(RemoteProtocolError):
            made.go_back(expected)

    def test_an_acknowledgement_may_overtake_a_going_back(self) -> None:
        made = window("abcd")
        made.go_back(2)
        assert made.acknowledge(3) == ["a", "b", "c"]
        assert send_all(made) == [(4, "d")]
        assert list(made.unsent()) == []


class TestReopened:
    def test_a_receiver_that_knows_us_gets_the_rest(self) -> None:
        made = window("abcd")
        assert made.renumber(3) == ["a", "b"]
        assert send_all(made) == [(3, "c"), (4, "d")]

    def test_a_receiver_that_has_it_all(self) -> None:
        made = window("ab")
        assert made.renumber(3) == ["a", "b"]
        assert made.push("c") == 3

    def test_a_receiver_that_forgot_us_starts_at_one(self) -> None:
        made = window("abcd")
        made.acknowledge(2)
        assert made.renumber(1) == []
        assert send_all(made) == [(1, "c"), (2, "d")]

    def test_a_receiver_that_knows_more_than_we_sent(self) -> None:
        made = window("ab", sent=0)
        assert made.renumber(7) == []
        assert send_all(made) == [(7, "a"), (8, "b")]
        assert made.acknowledge(7) == ["a"]

    @pytest.mark.parametrize("expected", [2, 3, 4])
    def test_what_never_went_out_is_never_taken_for_acknowledged(self, expected: int) -> None:
        """A restarted writer's first items have the numbers of its last life's."""
        made = window("abc", sent=0)
        assert made.renumber(expected) == []
        assert [item for _, item in send_all(made)] == ["a", "b", "c"]
        assert made.first_number == expected


class TestCounter:
    def test_each_number_is_taken_once_in_order(self) -> None:
        counter = ReceiveCounter(4)
        assert [counter.judge(n) for n in (3, 4, 5, 6)] == [Arrival.AGAIN, Arrival.AGAIN, Arrival.NEXT, Arrival.AHEAD]
        counter.take(5)
        assert counter.last == 5

    @pytest.mark.parametrize("number", [4, 6])
    def test_no_other_number_can_be_taken(self, number: int) -> None:
        with pytest.raises(LocalProtocolError):
            ReceiveCounter(4).take(number)
