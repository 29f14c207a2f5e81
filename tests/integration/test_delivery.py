"""What each lane promises, kept over losses, deaths and restarts: on the in-memory twin and on real sockets."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from delivery_rig import (
    COUNT,
    FED,
    HELD,
    LEVEL,
    NOTE,
    SHARD,
    TEMP,
    Client,
    Echo,
    Killed,
    LossyPort,
    Rig,
    Said,
    Say,
    done,
    link_of,
    push_raw,
)

from tagwerk.actors.cvt.logic.familiar import Familiar
from tagwerk.protocols import quality as q
from tagwerk.protocols.errors import MailboxFull, NotSent, PeerDown, Refused, Timeout, WindowFull
from tagwerk.protocols.frames import Kind, pack_feed_header, pack_header, read_header
from tagwerk.protocols.message import encode_message
from tagwerk.protocols.samples import ValueType, decode, encode, make
from tagwerk.protocols.tag_rows import TagRows
from tagwerk.protocols.tags import (
    GetSnapshot,
    JournalPage,
    OpenView,
    PositionMark,
    ReadJournal,
    ReadTags,
    TagDef,
    TagWritten,
    ViewSnapshot,
    WriteTag,
)
from tagwerk.runtime.control import WINDOW
from tagwerk.runtime.control_box import Sender
from tagwerk.runtime.dead_letters import DEAD_LETTERS_LIMIT, TEXT_LIMIT
from tagwerk.runtime.durable import read_record
from tagwerk.runtime.page import PeerState
from tagwerk.runtime.publisher import Publisher
from tagwerk.runtime.transport import REQUEST_LIMIT_BYTES
from tagwerk.runtime.writer_link import Ticket


@pytest.fixture(params=["memory", pytest.param("zmq", marks=pytest.mark.slow)])
def zmq(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "zmq")


@pytest.fixture
def rig(tmp_path: Path, zmq: bool) -> Iterator[Rig]:
    rig = Rig(tmp_path, zmq=zmq)
    yield rig
    rig.close()


def tell_later(rig: Rig, client: Client, echo: Echo) -> None:
    """The client's first message has come to the actor, so the connection stands."""
    client.peers.tell("echo/0", Say("hello"))
    rig.until(lambda: echo.heard == ["hello"] and not len(client.peers._links["echo/0"].window))
    echo.heard.clear()


class TestControl:
    def test_a_tell_arrives_and_is_receipted(self, rig: Rig) -> None:
        echo, client = rig.echo(), rig.client()
        for number in range(5):
            client.peers.tell("echo/0", Say(str(number)))
        rig.until(lambda: len(echo.heard) == 5 and not len(client.peers._links["echo/0"].window))
        assert echo.heard == ["0", "1", "2", "3", "4"]
        assert client.dead_letters.total == 0

    def test_an_ask_is_answered(self, rig: Rig) -> None:
        rig.echo()
        client = rig.client()
        client.ask(Say("hello"))
        rig.until(lambda: client.outcomes)
        assert client.outcomes == [Said("hello")]

    def test_an_answer_may_come_afterwards(self, rig: Rig) -> None:
        echo, client = rig.echo(), rig.client()
        client.ask(Say("hello", "later"))
        rig.until(lambda: echo.waiting)
        rig.run(0.2)
        assert client.outcomes == []
        echo.waiting[0].reply(Said("at last"))
        rig.until(lambda: client.outcomes)
        assert client.outcomes == [Said("at last")]

    def test_a_refusal_is_an_answer(self, rig: Rig) -> None:
        rig.echo()
        client = rig.client()
        client.ask(Say("hello", "refuse"))
        rig.until(lambda: client.outcomes)
        refused = client.outcomes[0]
        assert isinstance(refused, Refused)
        assert (refused.code, refused.message, refused.tag) == ("BadValue", "not that", "hall.temp")

    def test_what_is_not_understood_is_refused(self, rig: Rig) -> None:
        rig.echo()
        client = rig.client()
        client.ask(ReadTags((1,)))
        rig.until(lambda: client.outcomes)
        assert isinstance(client.outcomes[0], Refused)

    def test_an_unknown_message_is_refused_and_a_dead_letter(self, rig: Rig) -> None:
        echo, client = rig.echo(), rig.client()
        tell_later(rig, client, echo)
        link = client.peers._links["echo/0"]
        header = pack_header(Kind.ASK, link.session, 2, link.incarnation, 0, "attach/test", 77)
        assert link.port.send([header, b"\x91\xa6Nobody"])
        rig.until(lambda: echo.dead_letters.total == 1)
        assert "Nobody" in echo.dead_letters.letters[0].reason

    def test_a_question_without_an_answer_ends_at_its_deadline(self, rig: Rig) -> None:
        echo, client = rig.echo(), rig.client()
        client.ask(Say("hello", "later"), timeout_s=1.0)
        rig.until(lambda: echo.waiting)
        rig.run(1.1)
        assert [type(outcome) for outcome in client.outcomes] == [Timeout]
        echo.waiting[0].reply(Said("too late"))
        rig.run(0.2)
        assert len(client.outcomes) == 1
        assert client.dead_letters.counts == {"late": 1}
        assert client.dead_letters.letters[0].type == "Said"

    def test_what_comes_late_is_not_done_and_the_sender_hears_that(self, rig: Rig) -> None:
        echo, client = rig.echo(), rig.client()
        tell_later(rig, client, echo)
        client.ask(Say("late"), timeout_s=1.0)
        rig.clock.advance(1.5)
        rig.clients.remove(client)  # it looks only when the answer is there
        rig.until(lambda: echo.dead_letters.total == 1)
        client.await_kind(Kind.DROPPED)
        rig.clients.append(client)
        rig.until(lambda: client.outcomes)
        assert isinstance(client.outcomes[0], NotSent)
        assert "deadline" in str(client.outcomes[0])
        assert echo.heard == []

    def test_what_waited_in_the_line_behind_something_long_is_not_done_late(self, rig: Rig) -> None:
        echo, client = rig.echo(), rig.client()
        tell_later(rig, client, echo)
        client.ask(Say("first", "later"), timeout_s=9.0)
        client.ask(Say("second"), timeout_s=1.0)
        mailbox = echo.actor_inbox
        rig.clients.remove(client)
        del rig.actors["echo/0"]  # it hears, and takes nothing yet

        def both_wait() -> bool:
            mailbox.reactor.step(1_000_000)
            return len(mailbox._control) == 2

        rig.until(both_wait)
        rig.actors["echo/0"] = echo
        first = mailbox.take()
        assert first is not None
        rig.clock.advance(2.0)  # the first one takes long
        echo.on_receive(first.message)
        rig.until(lambda: echo.dead_letters.total == 1)
        assert echo.heard == ["first"]
        client.await_kind(Kind.DROPPED)
        rig.clients.append(client)
        rig.until(lambda: client.outcomes)
        assert isinstance(client.outcomes[0], NotSent)

    def test_what_was_meant_for_another_incarnation_is_not_done(self, rig: Rig) -> None:
        echo, client = rig.echo(), rig.client()
        rig.page.slot("echo/0").attach(pid=1, incarnation=99, mono_ns=1)
        rig.say("echo/0", PeerState.RUNNING)
        rig.page.slot("echo/0").write_state(PeerState.RUNNING)
        client.ask(Say("hello"))
        client.peers.tell("echo/0", Say("you there"))
        rig.until(lambda: client.outcomes and client.dead_letters.total == 2)
        assert isinstance(client.outcomes[0], NotSent)
        assert "incarnation" in str(client.outcomes[0])
        assert [letter.type for letter in client.dead_letters.letters] == ["Say", "Say"]
        assert client.dead_letters.counts == {"not done": 2}
        assert echo.dead_letters.counts == {"old": 2}
        assert echo.heard == []

    def test_each_command_is_accounted_for_once(self, rig: Rig) -> None:
        """What its receiver said it did not do is not unknown, too, when the receiver dies before its receipt."""
        echo, client = rig.echo(), rig.client()
        tell_later(rig, client, echo)
        link = client.peers._links["echo/0"]
        client.ask(Say("late"), timeout_s=0.2)
        client.peers.tell("echo/0", Say("late, too"), timeout_s=0.2)
        rig.clock.advance(0.3)
        box = echo.actor_inbox.box
        box._port = LossyPort(box._port, lambda frames: read_header(frames[1]).kind == Kind.RECEIPT)
        rig.until(lambda: client.dead_letters.total == 2)
        assert len(link.window) == 2
        rig.kill("echo/0")
        rig.until(lambda: "echo/0" not in client.peers._links)
        rig.run(0.1)
        assert client.dead_letters.counts == {"not done": 2}
        assert len(client.outcomes) == 1

    def test_a_reply_of_an_earlier_life_of_the_link_is_counted(self, rig: Rig) -> None:
        echo, client = rig.echo(), rig.client()
        client.ask(Say("hello", "later"))
        rig.until(lambda: echo.waiting)
        client.peers._links["echo/0"].session += 1
        echo.waiting[0].reply(Said("hello"))
        rig.until(lambda: client.dead_letters.counts["old"] >= 1)
        assert client.outcomes == []

    def test_a_frame_that_got_lost_is_told_apart_from_one_that_arrived(self, rig: Rig) -> None:
        echo, client = rig.echo(), rig.client()
        tell_later(rig, client, echo)
        link = client.peers._links["echo/0"]
        link.port = lossy = LossyPort(link.port, lambda _: lossy.lost == 0)
        client.ask(Say("lost"))
        client.ask(Say("arrives"))
        rig.until(lambda: len(client.outcomes) == 2)
        assert sorted(type(one).__name__ for one in client.outcomes) == ["NotSent", "Said"]
        assert echo.heard == ["arrives"]

    def test_the_first_frame_of_all_may_get_lost_too(self, rig: Rig) -> None:
        echo = rig.echo()
        client = rig.client()
        client.peers._link("echo/0")
        link = client.peers._links["echo/0"]
        link.port = lossy = LossyPort(link.port, lambda _: lossy.lost == 0)
        client.ask(Say("lost"))
        client.ask(Say("arrives"))
        rig.until(lambda: len(client.outcomes) == 2)
        assert sorted(type(one).__name__ for one in client.outcomes) == ["NotSent", "Said"]
        assert echo.heard == ["arrives"]

    def test_a_peer_that_dies_is_told_from_the_page(self, rig: Rig) -> None:
        echo, client = rig.echo(), rig.client()
        client.ask(Say("hello", "later"), timeout_s=60.0)
        client.peers.tell("echo/0", Say("and this"))
        rig.until(lambda: len(echo.heard) == 2 and len(client.peers._links["echo/0"].window) == 0)
        rig.kill("echo/0")
        rig.until(lambda: client.outcomes, 1.0)
        assert [type(outcome) for outcome in client.outcomes] == [PeerDown]
        client.ask(Say("anyone there"))
        rig.until(lambda: len(client.outcomes) == 2)
        assert isinstance(client.outcomes[1], NotSent)

    def test_of_what_a_dead_peer_had_not_receipted_nobody_knows(self, rig: Rig) -> None:
        echo, client = rig.echo(), rig.client()
        tell_later(rig, client, echo)
        rig.still.add("echo/0")
        client.peers.tell("echo/0", Say("perhaps"))
        rig.run(0.1)
        rig.kill("echo/0")
        rig.until(lambda: client.dead_letters.total, 1.0)
        assert client.dead_letters.letters[0].reason.startswith("unknown")

    def test_a_successor_is_spoken_to_anew(self, rig: Rig) -> None:
        rig.echo()
        client = rig.client()
        client.ask(Say("hello"))
        rig.until(lambda: client.outcomes)
        rig.kill("echo/0")
        echo = rig.echo()
        client.ask(Say("again"))
        rig.until(lambda: len(client.outcomes) == 2)
        assert client.outcomes[1] == Said("again")
        assert echo.heard == ["again"]

    def test_an_asker_may_ask_again_at_once_when_its_peers_died(self, rig: Rig) -> None:
        echo = rig.echo()
        rig.shard()
        client = rig.client()
        outcomes: list[Any] = []

        def again(outcome: Any) -> None:
            outcomes.append(outcome)
            if isinstance(outcome, PeerDown):
                client.peers.ask("echo/0", Say("again"), outcomes.append)
                client.peers.ask(SHARD, ReadTags((TEMP,)), outcomes.append)

        client.peers.ask("echo/0", Say("hello", "later"), again, 60.0)
        client.peers.ask("echo/0", Say("hello", "later"), again, 60.0)
        rig.until(lambda: len(echo.waiting) == 2)
        for name in ("echo/0", SHARD):
            rig.kill(name)
        rig.echo()
        rig.shard()
        rig.until(lambda: len(outcomes) == 6)
        assert [type(one).__name__ for one in outcomes].count("TagStates") == 2

    def test_an_asker_may_ask_in_its_answer_though_the_answerer_was_restarted_meanwhile(self, rig: Rig) -> None:
        echo, client = rig.echo(), rig.client()
        outcomes: list[Any] = []

        def again(outcome: Any) -> None:
            outcomes.append(outcome)
            client.ask(Say("again"))

        client.peers.ask("echo/0", Say("hello", "later"), again, 60.0)
        client.peers.ask("echo/0", Say("hello", "later"), outcomes.append, 60.0)
        rig.until(lambda: len(echo.waiting) == 2)
        rig.clients.remove(client)  # it is busy while both answers come, and while the answerer is restarted
        for waiting in echo.waiting:
            waiting.reply(Said("hello"))
        port = client.peers._links["echo/0"].port
        rig.until(lambda: client.transport.wait([port], 0))
        rig.page.slot("echo/0").attach(pid=1, incarnation=99, mono_ns=1)
        rig.say("echo/0", PeerState.RUNNING)
        rig.page.slot("echo/0").write_state(PeerState.RUNNING)
        rig.clients.append(client)
        rig.until(lambda: len(outcomes) == 2 and client.outcomes)
        assert outcomes[0] == Said("hello")
        assert isinstance(outcomes[1], PeerDown)
        assert isinstance(client.outcomes[0], NotSent)

    def test_a_full_mailbox_is_told_to_the_sender(self, rig: Rig) -> None:
        echo, client = rig.echo(), rig.client()
        tell_later(rig, client, echo)
        rig.still.add("echo/0")
        for number in range(WINDOW):
            client.peers.tell("echo/0", Say(str(number)))
        client.ask(Say("one more"))
        client.peers.tell("echo/0", Say("and one more"))
        rig.until(lambda: client.outcomes)
        refusal = client.outcomes[0]
        assert isinstance(refusal, NotSent)
        assert isinstance(refusal.__cause__, MailboxFull)
        assert client.dead_letters.letters[0].reason.startswith("not done")
        rig.still.clear()
        rig.until(lambda: len(echo.heard) == WINDOW)
        assert client.dead_letters.counts == {"not done": 2}

    def test_a_number_that_does_not_fit_is_not_sent_and_harms_nobody(self, rig: Rig) -> None:
        rig.shard()
        client = rig.client()
        client.ask(WriteTag(NOTE, 1 << 70), SHARD)
        rig.until(lambda: client.outcomes)
        assert isinstance(client.outcomes[0], NotSent)

    @pytest.mark.parametrize(
        "header",
        [
            b"", b"\xc1", pack_feed_header(1, 1, 0, 0, 0, beat=True), pack_header(Kind.ACK, 1, 1),
            pack_header(Kind.TELL, 1), pack_header(Kind.ASK, 1, -5, 0, 0, "x", 1),
        ],
    )  # fmt: skip
    def test_nonsense_is_counted_and_dropped(self, rig: Rig, header: bytes) -> None:
        echo, shard, client = rig.echo(), rig.shard(), rig.client()
        tell_later(rig, client, echo)
        link_of(client.publisher("erp"))
        rig.until(lambda: shard.writers.by_name)
        for actor, suffix in ((echo, "box"), (shard, "box"), (shard, "in")):
            port = client.transport.dealer(rig.home.socket(actor.name, suffix), suffix.encode() + b"-raw")
            rig.until(lambda port=port: port.send([header, b"body"]))  # type: ignore[misc]
            if suffix == "box":
                rig.until(lambda actor=actor: actor.dead_letters.total == 1)  # type: ignore[misc]
        rig.run(0.1)
        client.ask(Say("still there"))
        client.ask(ReadTags((TEMP,)), SHARD)
        rig.until(lambda: len(client.outcomes) == 2)

    def test_a_number_out_of_any_window_is_nonsense_and_harms_no_later_one(self, rig: Rig) -> None:
        echo, client = rig.echo(), rig.client()
        tell_later(rig, client, echo)
        link = client.peers._links["echo/0"]
        for number in (2**63, 2 + WINDOW):
            header = pack_header(Kind.TELL, link.session, number, link.incarnation, 0, "attach/test", 0)
            assert link.port.send([header, encode_message(Say("from nowhere"))])
        rig.until(lambda: echo.dead_letters.counts == {"nonsense": 2})
        client.ask(Say("the next one"))
        rig.until(lambda: client.outcomes)
        assert echo.heard == ["the next one"]

    def test_what_is_too_long_is_not_looked_at(self, rig: Rig) -> None:
        echo, client = rig.echo(), rig.client()
        tell_later(rig, client, echo)
        client.ask(Say("x" * REQUEST_LIMIT_BYTES))
        rig.until(lambda: client.outcomes)
        assert isinstance(client.outcomes[0], NotSent)
        link = client.peers._links["echo/0"]
        header = pack_header(Kind.TELL, link.session, 2, link.incarnation, 0, "attach/" + "x" * 5_000, 0)
        assert link.port.send([header, encode_message(Say("who"))])
        rig.until(lambda: echo.dead_letters.counts == {"nonsense": 1})
        assert echo.heard == []

    def test_an_answer_that_no_asker_takes_becomes_a_refusal(self, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
        rig.echo()
        client = rig.client()
        monkeypatch.setattr("tagwerk.runtime.control_box.CONTROL_LIMIT_BYTES", 1_000)
        client.ask(Say("x" * 1_000))
        rig.until(lambda: client.outcomes)
        assert isinstance(client.outcomes[0], Refused)
        client.ask(Say("x"))
        rig.until(lambda: client.outcomes[1:] == [Said("x")])

    def test_a_flood_of_nonsense_does_not_push_out_what_is_unknown(self, rig: Rig) -> None:
        echo, client = rig.echo(), rig.client()
        tell_later(rig, client, echo)
        rig.still.add("echo/0")
        client.peers.tell("echo/0", Say("perhaps"))
        rig.run(0.1)
        rig.kill("echo/0")
        rig.until(lambda: client.dead_letters.total, 1.0)
        for _ in range(DEAD_LETTERS_LIMIT + 10):
            client.peers.bury("echo/0", "frame", "nonsense: " + "x" * 10_000, 1)
        letters = client.dead_letters.letters
        assert len(letters) == DEAD_LETTERS_LIMIT + 1
        assert letters[0].reason.startswith("unknown")
        assert max(len(letter.reason) for letter in letters) == TEXT_LIMIT
        assert client.dead_letters.total == DEAD_LETTERS_LIMIT + 11

    def test_replies_wait_for_the_commit(self, rig: Rig) -> None:
        """A frame that comes while a drain is under way must not carry the answers out before the flush."""
        echo, client = rig.echo(), rig.client()
        tell_later(rig, client, echo)
        mailbox = echo.actor_inbox
        rig.still.add("echo/0")
        client.ask(Say("one"))
        rig.until(lambda: mailbox.reactor.step(0))
        envelope = mailbox.take()
        assert envelope is not None
        echo.on_receive(envelope.message)
        link = client.peers._links["echo/0"]
        assert link.port.send([b"\xc1", b""])
        rig.until(lambda: mailbox.reactor.step(0))
        rig.run(0.1)
        assert client.outcomes == []
        assert mailbox.flush()
        rig.until(lambda: client.outcomes)

    def test_what_a_reply_changed_is_flushed(self, rig: Rig) -> None:
        echo = rig.echo()
        rig.shard()
        rig.run(0.1)
        flushes = echo.flushes
        answers: list[Any] = []
        echo.ask(SHARD, ReadTags((TEMP,)), lambda outcome: answers.append(echo.flushes))
        rig.until(lambda: answers, 2.0)
        rig.turn()
        assert echo.flushes > answers[0] >= flushes


def feeding(rig: Rig, writer: str = "erp", *, named: bool = True) -> tuple[Client, Publisher]:
    client = rig.client(f"attach/{writer}")
    publisher = client.publisher(writer, named=named)
    rig.until(lambda: publisher.opened)
    return client, publisher


class TestIngest:
    def test_a_published_value_is_current_and_journaled_when_acknowledged(self, rig: Rig) -> None:
        rig.shard()
        _, publisher = feeding(rig)
        ticket = rig.publish(publisher, TEMP, 20.0, 21.0)
        rig.until(lambda: done(ticket))
        assert rig.values(TEMP) == [20.0, 21.0]
        assert rig.state(TEMP).value == 21.0
        assert (ticket.refused, ticket.not_journaled) == ([], False)

    def test_a_writer_by_hand_as_the_wire_document_shows_it(self, rig: Rig) -> None:
        shard = rig.shard()
        client = rig.client()
        port = client.transport.dealer(rig.home.socket(SHARD, "in"), b"by hand!")
        steps = json.loads((Path(__file__).parents[1] / "vectors" / "writer.json").read_text())["steps"]
        for step in steps:
            frames = [bytes.fromhex(frame) for frame in step["frames"]]
            if step["from"] == "writer":
                rig.until(lambda frames=frames: port.send(frames))  # type: ignore[misc]
                continue
            heard: list[list[bytes]] = []
            rig.until(lambda heard=heard: heard.extend([one] if (one := port.recv()) else []) or heard)  # type: ignore[misc]
            assert heard[0] == frames, step["what"]
        rig.until(lambda: not shard.writers.by_name["erp"].alive)
        assert rig.values(TEMP) == [21.5]

    def test_many_batches_arrive_in_order_each_once(self, rig: Rig) -> None:
        rig.shard()
        _, publisher = feeding(rig)
        tickets = [rig.publish(publisher, TEMP, float(number)) for number in range(200)]
        rig.until(lambda: all(map(done, tickets)))
        assert rig.values(TEMP) == [float(number) for number in range(200)]

    @pytest.mark.parametrize("moment", ["take", "commit", "ack"])
    def test_a_shard_that_dies_takes_each_batch_once(self, rig: Rig, moment: str) -> None:
        shard = rig.shard()
        _, publisher = feeding(rig)
        first = rig.publish(publisher, TEMP, 1.0)
        rig.until(lambda: done(first))

        def die(*_: Any, **__: Any) -> None:
            raise Killed

        if moment == "take":
            shard.desk._take = die  # type: ignore[assignment]
            shard.desk._taken = die  # type: ignore[method-assign, assignment]
        elif moment == "commit":
            shard.journal.commit = die  # type: ignore[method-assign]
        else:
            shard.desk.flush = die  # type: ignore[method-assign]
        tickets = [rig.publish(publisher, TEMP, value) for value in (2.0, 3.0)]
        rig.until(lambda: not rig.actors)
        tickets.append(rig.publish(publisher, TEMP, 4.0))
        rig.run(0.2)
        assert not any(map(done, tickets))
        rig.shard()
        rig.until(lambda: all(map(done, tickets)))
        assert rig.values(TEMP) == [1.0, 2.0, 3.0, 4.0]
        assert rig.state(TEMP).value == 4.0

    def test_the_writer_goes_back_when_a_frame_is_lost(self, rig: Rig) -> None:
        rig.shard()
        _, publisher = feeding(rig)
        link = link_of(publisher)
        link.port = lossy = LossyPort(link.port, partial(_loses, [2, 3]))
        tickets = [rig.publish(publisher, TEMP, float(number)) for number in range(1, 7)]
        rig.until(lambda: all(map(done, tickets)))
        assert lossy.lost == 2
        assert rig.values(TEMP) == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]

    def test_the_last_frame_may_be_lost(self, rig: Rig) -> None:
        """Nothing behind it shows the gap: the writer itself must look."""
        rig.shard()
        _, publisher = feeding(rig)
        link = link_of(publisher)
        link.port = LossyPort(link.port, partial(_loses, [1]))
        ticket = rig.publish(publisher, TEMP, 1.0)
        rig.until(lambda: done(ticket))
        assert rig.values(TEMP) == [1.0]

    def test_an_acknowledgement_may_be_lost(self, rig: Rig) -> None:
        shard = rig.shard()
        _, publisher = feeding(rig)
        shard.desk._port = LossyPort(shard.desk._port, lambda frames: read_header(frames[1]).kind == Kind.ACK)
        ticket = rig.publish(publisher, TEMP, 1.0)
        rig.until(lambda: done(ticket))
        assert rig.values(TEMP) == [1.0]

    def test_a_second_live_writer_of_a_name_is_refused(self, rig: Rig) -> None:
        rig.shard()
        _, first = feeding(rig)
        second = rig.client().publisher("erp")
        rig.until(lambda: link_of(second).refusal)
        refusal = link_of(second).refusal
        assert refusal is not None
        assert refusal.code == "Conflict"
        with pytest.raises(Refused):
            rig.publish(second, TEMP, 2.0)
        ticket = rig.publish(first, TEMP, 1.0)
        rig.until(lambda: done(ticket))

    def test_a_second_writer_takes_over_when_the_first_is_gone(self, rig: Rig) -> None:
        rig.shard()
        client, first = feeding(rig)
        rig.settle(first, TEMP, 1.0)
        second = rig.client().publisher("erp")
        rig.until(lambda: link_of(second).refusal)
        client.kill()
        rig.until(lambda: second.opened)
        rig.settle(second, TEMP, 2.0)
        assert rig.values(TEMP) == [1.0, 2.0]

    @pytest.mark.parametrize("before", [1, 5])
    def test_a_named_writer_goes_on_at_the_shards_number(self, rig: Rig, before: int) -> None:
        """What a restarted writer publishes before the link is open must not be taken for what it sent before."""
        rig.shard()
        client, publisher = feeding(rig)
        for number in range(before):
            rig.settle(publisher, TEMP, float(number))
        client.kill()
        rig.run(0.1)
        again = rig.client().publisher("erp", incarnation=2)
        tickets = [rig.publish(again, TEMP, 100.0 + number) for number in range(3)]
        rig.until(lambda: all(map(done, tickets)))
        assert rig.values(TEMP) == [*map(float, range(before)), 100.0, 101.0, 102.0]
        assert rig.cvt.writers.by_name["erp"].counter.last == before + 3

    def test_its_number_survives_the_shard(self, rig: Rig) -> None:
        rig.shard()
        client, publisher = feeding(rig)
        rig.settle(publisher, TEMP, 1.0)
        client.kill()
        rig.kill()
        rig.shard()
        assert rig.state(TEMP).value == 1.0
        _, again = feeding(rig)
        rig.settle(again, TEMP, 2.0)
        assert rig.values(TEMP) == [1.0, 2.0]
        assert rig.cvt.writers.by_name["erp"].counter.last == 2

    def test_nameless_writers_are_told_apart_and_forgotten_after_a_day(self, rig: Rig) -> None:
        shard = rig.shard()
        client, publisher = feeding(rig, "anon_1", named=False)
        rig.settle(publisher, TEMP, 1.0)
        publisher.goodbye()
        rig.until(lambda: not shard.writers.by_name["anon_1"].alive)
        client.kill()
        _, other = feeding(rig, "anon_2", named=False)
        rig.settle(other, LEVEL, 1.0)
        other.goodbye()
        rig.until(lambda: not shard.writers.by_name["anon_2"].alive)
        rig.clients[-1].kill()
        rig.clock.advance(24 * 3_600 + 1)
        rig.until(lambda: not {"anon_1", "anon_2"} & set(shard.writers.by_name))
        _, third = feeding(rig, "anon_3", named=False)
        ticket = rig.publish(third, TEMP, 3.0)
        rig.until(lambda: done(ticket))
        assert ticket.refused == []

    def test_refused_samples_are_listed_and_their_neighbours_pass(self, rig: Rig) -> None:
        rig.shard()
        client, publisher = feeding(rig)
        ticket = Ticket()
        batch = make(ValueType.FLOAT, [TEMP, COUNT, FED, LEVEL], [1.0, 2.0, 3.0, 4.0], rig.clock.now_ns())
        publisher.publish(batch, ticket)
        ticket.close()
        rig.until(lambda: done(ticket))
        assert ticket.refused == [(COUNT, "WrongType"), (FED, "NotOwner")]
        assert client.refused == ticket.refused
        assert [rig.state(handle).value for handle in (TEMP, LEVEL, COUNT, FED)] == [1.0, 4.0, None, None]
        assert (rig.values(TEMP), rig.values(LEVEL), rig.values(COUNT)) == ([1.0], [4.0], [])

    def test_each_publish_hears_of_its_own_refusals_also_past_a_thousand(self, rig: Rig) -> None:
        rig.shard()
        _, publisher = feeding(rig)
        tickets: list[Ticket] = []
        rig.still.add(SHARD)  # so that one acknowledgement covers them all
        for _ in range(3):
            ticket = Ticket()
            publisher.publish(make(ValueType.FLOAT, [COUNT] * 2_500, [0.0] * 2_500, rig.clock.now_ns()), ticket)
            ticket.close()
            tickets.append(ticket)
        rig.run(0.1)
        rig.still.clear()
        rig.until(lambda: all(map(done, tickets)))
        assert [len(ticket.refused) for ticket in tickets] == [2_500] * 3

    def test_a_reopened_link_still_hears_what_was_refused(self, rig: Rig) -> None:
        rig.shard()
        _, publisher = feeding(rig)
        rig.still.add(SHARD)
        ticket = Ticket()
        publisher.publish(make(ValueType.FLOAT, [COUNT], [0.0], rig.clock.now_ns()), ticket)
        ticket.close()
        link_of(publisher).open()
        rig.run(0.1)
        rig.still.clear()
        rig.until(lambda: done(ticket))
        assert ticket.refused == [(COUNT, "WrongType")]

    def test_nan_is_bad_keeps_the_value_and_is_logged(self, rig: Rig) -> None:
        rig.shard()
        _, publisher = feeding(rig)
        ticket = rig.publish(publisher, TEMP, 1.0, float("nan"))
        rig.until(lambda: done(ticket))
        assert (rig.state(TEMP).value, rig.state(TEMP).quality) == (1.0, q.BAD)
        assert [(one.value, one.quality) for one in rig.logged(TEMP)] == [(1.0, q.GOOD), (None, q.BAD)]

    def test_nonsense_uses_its_number_up_and_the_shard_comes_back_from_it(self, rig: Rig) -> None:
        shard = rig.shard()
        client, publisher = feeding(rig)
        ticket, after = Ticket(), Ticket()
        push_raw(publisher, b"\xc1 nonsense", ticket)
        publisher.publish(make(ValueType.FLOAT, [TEMP], [1.0], rig.clock.now_ns()), after)
        after.close()
        rig.until(lambda: done(ticket) and done(after))
        assert ticket.refused == [(0, "BadValue")]
        assert client.refused == [(0, "BadValue")]
        assert shard.dead_letters.total == 1
        assert rig.values(TEMP) == [1.0]
        rig.kill()
        rig.shard()
        assert rig.values(TEMP) == [1.0]
        assert rig.cvt.writers.by_name["erp"].counter.last == 2

    def test_a_frame_that_cannot_be_taken_is_refused_and_does_not_end_the_shard(
        self, rig: Rig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shard = rig.shard()
        _, publisher = feeding(rig)
        apply = Familiar.apply

        def poisoned(familiar: Familiar, batch: Any, *args: Any) -> Any:
            if batch.values[0] == 13.0:
                raise IndexError("poison")
            return apply(familiar, batch, *args)

        monkeypatch.setattr(Familiar, "apply", poisoned)
        tickets = [rig.publish(publisher, TEMP, value) for value in (12.0, 13.0, 14.0)]
        rig.until(lambda: all(map(done, tickets)))
        assert [ticket.refused for ticket in tickets] == [[], [(0, "BadValue")], []]
        assert rig.values(TEMP) == [12.0, 14.0]
        assert shard.dead_letters.total == 1

    def test_what_cannot_be_journaled_is_current_and_says_so(self, rig: Rig) -> None:
        rig.shard()
        client, publisher = feeding(rig)
        watch = client.watch("hall.*")
        rig.until(lambda: watch.synced)
        rig.settle(publisher, TEMP, 1.0)
        rig.disk.full = True
        ticket = rig.publish(publisher, TEMP, 2.0)
        rig.until(lambda: done(ticket))
        assert ticket.not_journaled
        assert rig.state(TEMP).value == 2.0
        rig.until(lambda: client.seen(TEMP)[-1] == (2.0, q.GOOD))
        rig.run(1.5)  # the journal's own tick, too
        rig.disk.full = False
        ticket = rig.publish(publisher, TEMP, 3.0)
        rig.until(lambda: done(ticket))
        assert not ticket.not_journaled
        assert rig.values(TEMP) == [1.0, 3.0]

    def test_that_is_remembered_when_the_acknowledgement_is_lost(self, rig: Rig) -> None:
        shard = rig.shard()
        _, publisher = feeding(rig)
        rig.disk.full = True
        shard.desk._port = lossy = LossyPort(
            shard.desk._port, lambda frames: lossy.lost == 0 and read_header(frames[1]).kind == Kind.ACK
        )
        ticket = rig.publish(publisher, TEMP, 2.0)
        rig.until(lambda: lossy.lost)
        rig.disk.full = False
        rig.until(lambda: done(ticket))
        assert ticket.not_journaled

    def test_a_full_window_is_told_and_so_is_room(self, rig: Rig) -> None:
        rig.shard()
        _, publisher = feeding(rig)
        rig.still.add(SHARD)
        tickets: list[Ticket] = []
        while not publisher.window_full:
            tickets.append(rig.publish(publisher, TEMP, float(len(tickets))))
            rig.turn()
        with pytest.raises(WindowFull):
            rig.publish(publisher, TEMP, -1.0)
        room: list[bool] = []
        publisher.on_room = lambda: room.append(True)
        rig.still.clear()
        rig.until(lambda: all(map(done, tickets)) and room)
        assert rig.values(TEMP) == [float(number) for number in range(len(tickets))]

    def test_backfill_is_history_only(self, rig: Rig) -> None:
        rig.shard()
        _, publisher = feeding(rig)
        rig.settle(publisher, TEMP, 5.0)
        ticket = rig.publish(publisher, TEMP, 1.0, float("nan"), at_ns=1_000_000_000, backfill=True)
        wrong = rig.publish(publisher, COUNT, 1.0, at_ns=1_000_000_000, backfill=True)
        rig.until(lambda: done(ticket) and done(wrong))
        assert rig.state(TEMP).value == 5.0
        found = [(one.value, one.quality) for one in rig.logged(TEMP)]
        assert found == [(5.0, 0), (1.0, q.BACKFILLED), (None, q.BAD | q.BACKFILLED)]
        assert wrong.refused == [(COUNT, "WrongType")]

    def test_a_writer_that_dies_turns_its_tags_bad_with_the_time_of_the_loss(self, rig: Rig) -> None:
        shard = rig.shard()
        client, publisher = feeding(rig)
        watcher = rig.client()
        watch = watcher.watch("hall.*")
        rig.until(lambda: watch.synced)
        rig.settle(publisher, TEMP, 1.0)
        before_ns = rig.clock.now_ns()
        client.kill()
        rig.until(lambda: rig.state(TEMP).quality == q.BAD_NO_COMMUNICATION)
        state = rig.state(TEMP)
        assert state.value == 1.0
        assert before_ns <= state.time_ns <= rig.clock.now_ns()
        assert rig.logged(TEMP)[-1].time_ns == state.time_ns
        rig.until(lambda: watcher.seen(TEMP)[-1] == (None, q.BAD_NO_COMMUNICATION))
        assert not shard.writers.by_name["erp"].alive

    def test_a_writer_that_falls_silent_is_lost(self, rig: Rig) -> None:
        rig.shard()
        client, publisher = feeding(rig)
        rig.settle(publisher, TEMP, 1.0)
        rig.clients.remove(client)  # as by SIGSTOP
        rig.clock.advance(2.5)
        rig.run(0.3)
        assert rig.state(TEMP).quality == q.GOOD
        rig.clock.advance(1.0)
        rig.until(lambda: rig.state(TEMP).quality == q.BAD_NO_COMMUNICATION)
        rig.clients.append(client)
        ticket = rig.publish(publisher, TEMP, 2.0)
        rig.until(lambda: done(ticket))
        assert (rig.state(TEMP).value, rig.state(TEMP).quality) == (2.0, q.GOOD)

    def test_a_writer_that_was_taken_for_lost_is_told_to_publish_again(self, rig: Rig) -> None:
        """Else what does not change would look lost for ever, though its source is there."""
        rig.shard()
        client, publisher = feeding(rig)
        told: list[bool] = []
        publisher.on_reborn = lambda: told.append(True)
        rig.settle(publisher, TEMP, 1.0)
        publisher.begin_session()  # its own birth is no news to it
        rig.settle(publisher, TEMP, 2.0)
        assert not told
        rig.clients.remove(client)
        rig.clock.advance(3.5)
        rig.until(lambda: rig.state(TEMP).quality == q.BAD_NO_COMMUNICATION)
        rig.clients.append(client)
        rig.until(lambda: told == [True])

    def test_the_loss_of_many_tags_reaches_the_watchers(self, tmp_path: Path) -> None:
        """More than one frame holds: no batch of any size may end the shard."""
        many = [TagDef(number + 1, f"many.t{number}", "float", 0) for number in range(6_000)]
        rig = Rig(tmp_path, zmq=False, tags=many)
        rig.shard()
        client, publisher = feeding(rig)
        watcher = rig.client()
        watch = watcher.watch("many.*")
        rig.until(lambda: watch.synced)
        ticket = Ticket()
        publisher.publish(make(ValueType.FLOAT, range(1, 6_001), [1.0] * 6_000, rig.clock.now_ns()), ticket)
        ticket.close()
        rig.until(lambda: done(ticket))
        client.kill()
        rig.until(lambda: rig.state(6_000).quality == q.BAD_NO_COMMUNICATION)
        rig.run(0.2)
        for handle in (1, 3_000, 6_000):
            assert watcher.seen(handle)[-1] == (None, q.BAD_NO_COMMUNICATION)
        assert watch.resyncs == 0
        rig.close()

    def test_hold_s_lets_a_source_come_back(self, rig: Rig) -> None:
        rig.shard()
        client, publisher = feeding(rig)
        rig.settle(publisher, HELD, 1.0)
        client.kill()
        rig.until(lambda: not rig.cvt.writers.by_name["erp"].alive)
        lost_ns = rig.clock.now_ns()
        rig.run(1.0)
        assert rig.state(HELD).quality == q.GOOD
        rig.run(1.5)
        assert rig.state(HELD).quality == q.BAD_NO_COMMUNICATION
        assert abs(rig.state(HELD).time_ns - lost_ns) < 500_000_000  # of the loss, not of the end of the hold
        client, publisher = feeding(rig)
        rig.settle(publisher, HELD, 2.0)
        client.kill()
        rig.until(lambda: not rig.cvt.writers.by_name["erp"].alive)
        feeding(rig)
        rig.run(3.0)
        assert rig.state(HELD).quality == q.GOOD

    def test_a_goodbye_leaves_the_values_usable(self, rig: Rig) -> None:
        shard = rig.shard()
        client, publisher = feeding(rig)
        ticket = rig.publish(publisher, TEMP, 1.0)
        publisher.publish(make(ValueType.FLOAT, [HELD], [1.0], rig.clock.now_ns()))
        rig.until(lambda: done(ticket) and publisher.pending == 0)
        publisher.goodbye()
        rig.until(lambda: not shard.writers.by_name["erp"].alive)
        rig.run(1.0)  # and stays gone: no timer of the publisher knocks again
        assert not shard.writers.by_name["erp"].alive
        client.kill()
        rig.run(2.5)
        for handle in (TEMP, HELD):
            assert rig.state(handle).quality == q.UNCERTAIN_NO_COMMUNICATION
            assert rig.state(handle).value == 1.0

    def test_a_tag_belongs_to_its_live_writer(self, rig: Rig) -> None:
        rig.shard()
        client, first = feeding(rig)
        rig.settle(first, TEMP, 1.0)
        _, second = feeding(rig, "mes")
        ticket = rig.publish(second, TEMP, 9.0)
        rig.until(lambda: done(ticket))
        assert ticket.refused == [(TEMP, "NotOwner")]
        client.kill()
        rig.until(lambda: not rig.cvt.writers.by_name["erp"].alive)
        client, first = feeding(rig)  # it was lost and is back: the tag is its own again
        rig.settle(first, TEMP, 2.0)
        ticket = rig.publish(second, TEMP, 9.0)
        rig.until(lambda: done(ticket))
        assert ticket.refused == [(TEMP, "NotOwner")]
        client.kill()
        rig.until(lambda: not rig.cvt.writers.by_name["erp"].alive)
        ticket = rig.publish(second, TEMP, 9.0)
        rig.until(lambda: done(ticket))
        assert ticket.refused == []

    def test_a_restarted_shard_gives_a_lease_to_be_born_again(self, rig: Rig) -> None:
        rig.shard()
        client, publisher = feeding(rig)
        rig.settle(publisher, TEMP, 1.0)
        rig.kill()
        rig.clients.remove(client)
        rig.shard()
        rig.run(1.0)
        assert rig.state(TEMP).quality == q.GOOD
        rig.clock.advance(3.0)
        rig.until(lambda: rig.state(TEMP).quality == q.BAD_NO_COMMUNICATION)
        rig.clients.append(client)

    def test_a_new_session_makes_old_times_current(self, rig: Rig) -> None:
        rig.shard()
        _, publisher = feeding(rig)
        rig.settle(publisher, TEMP, 1.0)
        publisher.begin_session()
        ticket = rig.publish(publisher, TEMP, 2.0, at_ns=rig.clock.now_ns() - 7_200_000_000_000)
        rig.until(lambda: done(ticket))
        assert (rig.state(TEMP).value, rig.state(TEMP).quality) == (2.0, q.GOOD)


def _loses(numbers: list[int], frames: Sequence[Any]) -> bool:
    """Each of these batches is lost once."""
    header = read_header(frames[0])
    if header.kind == Kind.PUBLISH and header.number in numbers:
        numbers.remove(header.number)
        return True
    return False


class TestWrites:
    @pytest.mark.parametrize("value", [1e300, "x" * 100_000, True, float("nan")])
    def test_no_value_that_is_written_ends_the_shard(self, rig: Rig, value: Any) -> None:
        shard = rig.shard()
        client = rig.client()
        tags = list(shard.table.tags)
        row = shard.table.row(COUNT)
        assert row is not None
        tags[row] = type(tags[row])(COUNT, "hall.count", "int", 0, writable=True)
        shard.table.tags = TagRows.of(tags)
        for handle in (COUNT, NOTE):
            client.ask(WriteTag(handle, value), SHARD)
        rig.until(lambda: len(client.outcomes) == 2)
        assert all(isinstance(outcome, Refused) for outcome in client.outcomes)

    def test_a_tag_without_a_device_is_its_shards(self, rig: Rig) -> None:
        rig.shard()
        client = rig.client()
        client.ask(WriteTag(NOTE, "x" * 60_000), SHARD)
        rig.until(lambda: client.outcomes)
        assert isinstance(client.outcomes[0], TagWritten)
        assert rig.values(NOTE) == ["x" * 60_000]


class TestFeed:
    def test_the_state_first_then_every_change(self, rig: Rig) -> None:
        rig.shard()
        _, publisher = feeding(rig)
        rig.settle(publisher, TEMP, 1.0)
        client = rig.client()
        watch = client.watch("hall.temp")
        rig.until(lambda: watch.synced, 1.0)
        assert client.batches[0].snapshot
        assert client.batches[0].complete
        assert client.seen(TEMP) == [(1.0, q.GOOD)]
        for value in (2.0, 3.0):
            rig.publish(publisher, TEMP, value)
            rig.publish(publisher, LEVEL, value)
        rig.until(lambda: len(client.seen(TEMP)) == 3)
        assert client.seen(TEMP) == [(1.0, q.GOOD), (2.0, q.GOOD), (3.0, q.GOOD)]
        assert client.seen(LEVEL) == []
        assert not client.batches[-1].snapshot
        assert client.batches[-1].received_ns > 0

    def test_a_view_of_nothing_is_in_step_too(self, rig: Rig) -> None:
        rig.shard()
        client = rig.client()
        watch = client.watch("nothing.*")
        rig.until(lambda: watch.synced, 1.0)
        assert [(len(batch), batch.snapshot) for batch in client.batches] == [(0, True)]

    def test_no_change_is_missed_or_seen_twice_while_many_join(self, rig: Rig) -> None:
        rig.shard()
        _, publisher = feeding(rig)
        watchers = [rig.client() for _ in range(5)]
        number = 0
        watches = []
        for watcher in watchers:
            watches.append(watcher.watch("hall.*"))
            for _ in range(20):
                number += 1
                rig.publish(publisher, TEMP, float(number))
                rig.turn()
                rig.clock.advance(0.02)
        rig.until(lambda: all(watch.synced for watch in watches) and publisher.pending == 0)
        rig.publish(publisher, TEMP, 0.5)
        rig.until(lambda: all(watcher.seen(TEMP)[-1:] == [(0.5, q.GOOD)] for watcher in watchers))
        for watcher in watchers:
            values = [value for value, _ in watcher.seen(TEMP) if value is not None]
            first = int(values[0])
            assert values == [*map(float, range(first, number + 1)), 0.5]

    def test_a_beat_never_hides_a_change(self, rig: Rig) -> None:
        """A beat that is due in the middle of a drain says nothing about what is not published yet."""
        shard = rig.shard()
        _, publisher = feeding(rig)
        client = rig.client()
        watch = client.watch("hall.*")
        rig.until(lambda: watch.synced)
        shard.own([make(ValueType.FLOAT, [TEMP], [7.0], rig.clock.now_ns())])
        shard._second()
        shard.on_flush()
        rig.until(lambda: client.seen(TEMP)[-1] == (7.0, q.GOOD), 0.5)
        assert publisher.pending == 0

    def test_a_snapshot_in_the_middle_of_a_drain_does_not_repeat_changes(self, rig: Rig) -> None:
        shard = rig.shard()
        client = rig.client()
        watch = client.watch("hall.temp")
        rig.until(lambda: watch.synced)
        shard.own([make(ValueType.FLOAT, [TEMP], [1.0], rig.clock.now_ns())])
        answer = shard.on_message(GetSnapshot(watch.topic), _nobody())
        assert isinstance(answer, ViewSnapshot)
        shard.own([make(ValueType.FLOAT, [TEMP], [2.0], rig.clock.now_ns())])
        port = client.transport.subscriber(rig.home.socket(SHARD, "feed"))
        port.subscribe(watch.topic)
        rig.run(0.2)
        frames: list[list[bytes]] = []
        while (one := port.recv()) is not None:
            frames.append(one)
        carrying = [read_header(one[1]) for one in frames if one[2]]
        assert [(header.after, header.upto) for header in carrying] == [
            (answer.position - 1, answer.position), (answer.position, answer.position + 1),
        ]  # fmt: skip

    def test_a_gap_is_seen_and_filled(self, rig: Rig) -> None:
        shard = rig.shard()
        _, publisher = feeding(rig)
        client = rig.client()
        watch = client.watch("hall.*")
        rig.until(lambda: watch.synced)
        port = shard.feed._port
        shard.feed._port = LossyPort(port, lambda frames: len(frames) == 3 and bool(frames[2]))
        rig.settle(publisher, LEVEL, 5.0)
        shard.feed._port = port
        rig.settle(publisher, TEMP, 6.0)
        rig.until(lambda: watch.resyncs == 1 and watch.synced)
        assert client.seen(LEVEL)[-1] == (5.0, q.GOOD)
        assert client.seen(TEMP)[-1] == (6.0, q.GOOD)
        assert [batch.complete for batch in client.batches if batch.snapshot][-1] is False

    def test_a_beat_alone_shows_the_gap(self, rig: Rig) -> None:
        shard = rig.shard()
        _, publisher = feeding(rig)
        client = rig.client()
        watch = client.watch("hall.*")
        rig.until(lambda: watch.synced)
        port = shard.feed._port
        shard.feed._port = LossyPort(port, lambda frames: len(frames) == 3 and bool(frames[2]))
        rig.settle(publisher, LEVEL, 5.0)
        shard.feed._port = port
        rig.until(lambda: client.seen(LEVEL)[-1] == (5.0, q.GOOD), 1.5)

    def test_a_new_incarnation_is_seen_and_its_state_taken(self, rig: Rig) -> None:
        rig.shard()
        _, publisher = feeding(rig)
        client = rig.client()
        watch = client.watch("hall.*")
        rig.until(lambda: watch.synced)
        rig.settle(publisher, TEMP, 1.0)
        rig.kill()
        rig.run(0.1)
        shard = rig.shard()
        rig.until(lambda: watch.synced and watch.incarnation == shard.context.incarnation)
        rig.settle(publisher, TEMP, 2.0)
        rig.until(lambda: client.seen(TEMP)[-1] == (2.0, q.GOOD))
        assert client.stale == []

    def test_three_seconds_of_silence_are_stale_and_the_end_of_it_brings_the_state(self, rig: Rig) -> None:
        rig.shard()
        client = rig.client()
        watch = client.watch("hall.temp")
        rig.until(lambda: watch.synced)
        rig.still.add(SHARD)
        rig.run(2.0)
        assert client.stale == []
        rig.run(1.5)
        assert client.stale == [True]
        client.batches.clear()
        rig.still.clear()
        rig.until(lambda: client.stale == [True, False])
        assert any(batch.snapshot for batch in client.batches)
        rig.run(3.0)
        assert client.stale == [True, False]

    def test_a_view_ends_with_its_lease(self, rig: Rig) -> None:
        shard = rig.shard()
        client = rig.client()
        watch = client.watch("hall.*")
        rig.until(lambda: watch.synced)
        rig.run(20.0)
        assert shard.feed.views == 1
        watch.close()
        rig.run(20.0)
        assert shard.feed.views == 0

    def test_a_bad_view_is_refused(self, rig: Rig) -> None:
        rig.shard()
        client = rig.client()
        client.ask(OpenView(("a[bc]",), 5.0), SHARD)
        client.ask(GetSnapshot(b"nosuch\0\0"), SHARD)
        rig.until(lambda: len(client.outcomes) == 2)
        assert all(isinstance(outcome, Refused) for outcome in client.outcomes)

    def test_a_full_frame_with_a_wrong_clock_does_not_end_the_shard(self, rig: Rig) -> None:
        """Marked Uncertain it is larger than a frame: 3,200 samples that were all Good when they came."""
        rig.shard()
        _, publisher = feeding(rig)
        client = rig.client()
        watch = client.watch("hall.temp")
        rig.until(lambda: watch.synced)
        count = 3_200
        frame = make(ValueType.FLOAT, [TEMP] * count, [1.0] * count, rig.clock.now_ns() + 3_600_000_000_000)
        ticket = Ticket()
        push_raw(publisher, encode([frame]), ticket)
        rig.until(lambda: done(ticket) and len(client.seen(TEMP)) == 1 + count)
        assert client.seen(TEMP)[1] == (1.0, q.UNCERTAIN)
        assert client.seen(TEMP)[-1] == (1.0, q.GOOD)


class TestJournalPages:
    def test_who_wants_no_record_gets_none_and_holds_none(self, rig: Rig) -> None:
        shard = rig.shard()
        client = rig.client()
        held = self.pages(rig, client, None).position
        shard.own([make(ValueType.FLOAT, [TEMP], [1.0], rig.clock.now_ns())])
        shard.on_flush()
        client.outcomes.clear()
        client.ask(ReadJournal("history/0", held, skip=True), SHARD)
        rig.until(lambda: client.outcomes)
        page = client.outcomes[0]
        assert isinstance(page, JournalPage)
        assert page.records == ()
        assert page.at_end
        assert page.hole is None
        assert page.position.n > held.n
        assert self.pages(rig, client, page.position).records == ()  # it is the end
        assert len(self.pages(rig, client, held).records) == page.position.n - held.n

    def pages(self, rig: Rig, client: Client, after: PositionMark | None) -> JournalPage:
        client.outcomes.clear()
        client.ask(ReadJournal("history/0", after), SHARD)
        rig.until(lambda: client.outcomes)
        page = client.outcomes[0]
        assert isinstance(page, JournalPage)
        return page

    def test_a_page_promises_that_nothing_older_comes(self, rig: Rig) -> None:
        shard = rig.shard()
        client = rig.client()
        shard.own([make(ValueType.FLOAT, [TEMP], [1.0], rig.clock.now_ns())])
        pending_ns = rig.clock.now_ns()
        answer = shard.on_message(ReadJournal("history/0", None), _nobody())  # in the middle of a drain
        assert isinstance(answer, JournalPage)
        assert answer.beat_ns <= pending_ns
        shard.on_flush()
        page = self.pages(rig, client, answer.position)
        records = [read_record(body) for body in page.records]
        assert all(record.received_ns >= answer.beat_ns for record in records)
        assert page.at_end
        assert page.beat_ns >= records[-1].received_ns
        assert [batch.values.tolist() for record in records for batch in decode(record.frame)] == [[1.0]]


@pytest.mark.parametrize("by_s", [3_600.0, -3_600.0], ids=["forward", "back"])
def test_a_step_of_the_wall_clock_breaks_no_lease_beat_or_deadline(rig: Rig, by_s: float) -> None:
    echo, shard = rig.echo(), rig.shard()
    _, publisher = feeding(rig)
    client = rig.client()
    watch = client.watch("hall.*")
    rig.until(lambda: watch.synced)
    rig.settle(publisher, TEMP, 1.0)
    rig.settle(publisher, LEVEL, 1.0)
    client.ask(Say("before the step", "later"), timeout_s=2.0)
    rig.until(lambda: echo.waiting)
    began_ns = rig.clock.mono_ns()
    rig.clock.step_wall(by_s)
    rig.run(0.5)
    assert client.outcomes == []
    client.ask(Say("after it"), timeout_s=1.0)
    rig.until(lambda: client.outcomes == [Said("after it")], 0.9)
    rig.until(lambda: len(client.outcomes) == 2, 2.0)
    assert isinstance(client.outcomes[1], Timeout)
    assert 1.9e9 < rig.clock.mono_ns() - began_ns < 2.5e9
    rig.run(4.0)  # longer than a lease, and than beats may stay away
    assert client.stale == []
    assert watch.resyncs == 0
    assert rig.state(LEVEL).quality == q.GOOD
    assert shard.feed.views == 1
    rig.settle(publisher, TEMP, 2.0)
    rig.until(lambda: client.seen(TEMP)[-1][0] == 2.0)
    assert client.dead_letters.total == 0


def _nobody() -> Any:
    return Sender("client/0", 0, b"", 0, 0)


def test_quality_batches_are_current(rig: Rig) -> None:
    """A source that lost its device says so with its own clock: behind the last sample's, and still believed."""
    rig.shard()
    _, publisher = feeding(rig)
    rig.settle(publisher, TEMP, 1.0, at_ns=rig.clock.now_ns() + 2 * 10**9)
    rig.settle(publisher, LEVEL, 1.0)
    publisher.publish(make(ValueType.QUALITY, [TEMP, LEVEL], None, rig.clock.now_ns() + 10**6, q.BAD_NO_COMMUNICATION))
    rig.until(lambda: publisher.pending == 0)
    assert [rig.state(handle).quality for handle in (TEMP, LEVEL)] == [q.BAD_NO_COMMUNICATION] * 2
