"""What is said to any actor, and about the house itself."""

from __future__ import annotations

from tagwerk.protocols.message import Message, Record


class GetDeadLetters(Message, frozen=True):
    """To any actor: its dead letters. Answered by `DeadLetters`."""

    limit: int = 1_000


class DeadLetter(Record, frozen=True):
    """A message that was not delivered, or of which nobody knows. `time_ns`: UTC, ns since 1970."""

    time_ns: int
    sender: str
    to: str
    type: str
    reason: str
    size: int


class DeadLetters(Message, frozen=True):
    """The newest dead letters, oldest first, and how many there were in all.

    `counts`: how many there were of each sort: the word or two before the colon of their reasons.
    """

    total: int
    letters: tuple[DeadLetter, ...]
    counts: tuple[tuple[str, int], ...] = ()


class Event(Record, frozen=True):
    """Who did what, when. `time_ns`: UTC, ns since 1970."""

    time_ns: int
    user: str
    host: str
    kind: str
    target: str
    before: str = ""
    after: str = ""
    reason: str = ""


class ReadOutbox(Message, frozen=True):
    """From `events/0` to an actor: its events after number `after`. Answered by `OutboxPage`.

    The numbers of an outbox only rise; the asker has committed all up to `after`. `box` is the outbox that `after`
    belongs to ("" if none is known): a number of another one, lost since, says nothing about this one.
    """

    after: int
    limit: int = 500
    box: str = ""


class OutboxPage(Message, frozen=True):
    """Events in order, each with its number in the outbox `box` (a random id, new if the outbox was lost)."""

    box: str
    events: tuple[tuple[int, Event], ...]


class HoldStill(Message, frozen=True):
    """From a backup to an actor whose files belong together with those of others: keep what was written so far.

    A shard removes nothing from its journal, the historian puts no past in order and drops no day, `events/0` fetches
    nothing. All else goes on. It lasts `lease_s` (0: no longer; at most 60); `renew` asks for more of a hold that must
    not have ended. Answered by `Done` or `Refusal` (Conflict: another backup is being made; NotActive: it has ended).
    """

    holder: str
    lease_s: float
    renew: bool = False


class OutboxBell(Message, frozen=True):
    """From an actor to `events/0`: there is something in my outbox. Losing one costs ten seconds, no more."""


class GetEvents(Message, frozen=True):
    """To `events/0`: the newest events that match; with `after_id`, the first ones after it. Answered by `EventList`.

    `start_ns <= time < end_ns`; `target` is a name or a glob, "" for all; `kinds` are names or globs, at most 100, none
    for all; `user` is a whole name. To follow, ask again with the last number; to page back, with `before_id` = the
    first one (0: no bound); to page through all from the first on, with `oldest_first` and `after_id`.
    """

    limit: int = 100
    after_id: int = 0
    start_ns: int | None = None
    end_ns: int | None = None
    target: str = ""
    kinds: tuple[str, ...] = ()
    user: str = ""
    before_id: int = 0
    oldest_first: bool = False


class EventList(Message, frozen=True):
    """Events, oldest first, each with its number in the store."""

    events: tuple[tuple[int, Event], ...]
