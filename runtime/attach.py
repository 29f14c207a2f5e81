"""Attach: how a script or another program takes part.

One thread of ours owns the sockets and answers beats, so a slow script does not lose what it owns.
"""

from __future__ import annotations

import getpass
import os
import re
import secrets
import socket as sockets
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Self, TypeVar, final

import numpy as np
from msgspec.structs import replace

from tagwerk.protocols.alarms import AckAlarm, AlarmAcked, AlarmList, AlarmRow, GetAlarms
from tagwerk.protocols.errors import ConfigError, Refused, RefusedCode, Unavailable
from tagwerk.protocols.message import Message
from tagwerk.protocols.names import glob_problem, is_glob
from tagwerk.protocols.samples import Samples, TagValue
from tagwerk.protocols.tags import ReadTags, TagDef, TagStates, WriteTag
from tagwerk.runtime.attach_ask import Asker
from tagwerk.runtime.attach_definitions import definitions_of
from tagwerk.runtime.attach_engine import Engine, result_of, settle
from tagwerk.runtime.attach_history import history_of
from tagwerk.runtime.attach_publish import PublishQueue
from tagwerk.runtime.attach_values import as_ns, batch_of, in_unit, nearest, written
from tagwerk.runtime.attach_watch import TagWatch
from tagwerk.runtime.home import Home

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from concurrent.futures import Future
    from datetime import datetime

R = TypeVar("R", bound=Message)

_WRITER: Final = re.compile(r"[a-z0-9_]{1,60}")


@final
class Plant:
    """A plant that runs, as a script sees it. Made by `attach`. Thread-safe; blocking calls end by `timeout_s`."""

    def __init__(self, home: Home, writer: str | None, timeout_s: float) -> None:
        who = writer if writer is not None else f"anon_{secrets.token_hex(6)}"
        self._engine = Engine(home, f"attach/{who}")
        self._asker = Asker(self._engine, timeout_s)
        self._watches: list[TagWatch] = []
        self.user = _user()
        self.host = sockets.gethostname()
        try:
            self._table = definitions_of(self._asker, home)
        except BaseException:
            self._engine.stop()
            raise
        self._publishes = PublishQueue(self._engine, self._table, who, named=writer is not None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Say goodbye: what this process owned stays usable, and says that its source left."""
        engine = self._engine
        for watch in list(self._watches):
            watch.close()

        def goodbye(future: Future[None]) -> None:
            self._publishes.goodbye()
            # One turn more, so that the farewell leaves the socket before it is closed.
            engine.reactor.after(0.02, lambda: settle(future, None))

        if engine.alive:
            engine.call(goodbye).result(2)
        engine.stop()

    # --- asking ------------------------------------------------------------------------------------------------------

    def ask(self, actor: str, message: Message, timeout_s: float | None = None) -> Message:
        """Ask an actor once. See `Asker.ask`."""
        return self._asker.ask(actor, message, timeout_s)

    def query(self, actor: str, message: Message, reply: type[R], timeout_s: float | None = None) -> R:
        """Ask a question, again if the actor is just being restarted. See `Asker.query`."""
        return self._asker.query(actor, message, reply, timeout_s)

    def call(self, actor: str, message: Message, timeout_s: float | None = None) -> Message:
        """Send any message to any actor and wait for its reply. See `ask`."""
        return self.ask(actor, message, timeout_s)

    # --- definitions -------------------------------------------------------------------------------------------------

    def definition(self, tag: str) -> TagDef:
        """The definition of a tag.

        Raises:
            Refused: There is no such tag (UnknownTag).
        """
        found = self._table.by_name.get(tag)
        if found is None:
            near = nearest(tag, self._table.by_name)
            hint = f"; did you mean {near}?" if near else ""
            raise Refused(RefusedCode.UNKNOWN_TAG, f"there is no tag {tag!r}{hint}", tag)
        return found

    def definitions(self, *globs: str) -> list[TagDef]:
        """The definitions of the tags that match, in the order of their names.

        Raises:
            Refused: A glob is malformed.
        """
        tags = self._table.tags
        return sorted(tags.where(tags.mask_of(globs or ("*",))), key=lambda tag: tag.name)

    # --- values ------------------------------------------------------------------------------------------------------

    def read(self, tag: str) -> TagValue:
        """The current value of a tag.

        Raises:
            Refused: There is no such tag.
            Unavailable: Its shard does not answer.
        """
        return self.read_many([tag])[0]

    def read_many(self, tags: Iterable[str]) -> list[TagValue]:
        """The current values of these tags, in order; of each shard at one moment."""
        wanted = [self.definition(tag) for tag in tags]
        found: dict[int, TagValue] = {}
        for shard in sorted({tag.shard for tag in wanted}):
            mine = [tag for tag in wanted if tag.shard == shard]
            reply = self.query(f"cvt/{shard}", ReadTags(tuple(tag.handle for tag in mine)), TagStates)
            for tag, state in zip(mine, reply.states, strict=True):
                found[tag.handle] = TagValue(
                    tag.name, state.value, tag.unit, state.quality, state.time_ns, state.received_ns
                )
        return [found[tag.handle] for tag in wanted]

    def write(
        self,
        tag: str,
        value: float | int | bool | str,
        *,
        unit: str | None = None,
        timeout_s: float | None = None,
        reason: str = "",
    ) -> TagValue:
        """Set a tag, at most once; returns the value read back from where it lives.

        Args:
            tag: Its name.
            value: In `unit`, or in the tag's engineering unit.
            unit: Converted from; pint name.
            timeout_s: After it the write is not carried out any more.
            reason: For the log of events.

        Raises:
            Refused: A clear no, nothing was changed.
            NotSent: Certainly not done.
            Unknown: Handed over, and nobody knows what became of it.
        """
        definition = self.definition(tag)
        order = WriteTag(definition.handle, in_unit(definition, value, unit), self.user, self.host, reason)
        return written(definition, self.ask(f"cvt/{definition.shard}", order, timeout_s))

    def samples(self, names: Sequence[str], values: Any, times: Any = None, quality: Any = None) -> Samples:
        """A batch to publish, one type a batch.

        Args:
            names: Tag names, n, or one for all.
            values: (n,) of the tags' type.
            times: UTC, ns since 1970, (n,) or one for all; None: now.
            quality: StatusCodes, (n,) or one for all; None: Good.

        Raises:
            Refused: An unknown tag, tags of different types, or values of another type.
        """
        count = len(values)
        every = [names] if isinstance(names, str) else list(names)
        rows = self._table.by_name.rows_of(every)
        for place in np.flatnonzero(rows < 0)[:1].tolist():
            self.definition(every[place])  # says that there is none
        if isinstance(names, str):
            rows = np.repeat(rows, count)
        now = self._engine.clock.now_ns() if times is None else times
        return replace(batch_of(self._table.tags, rows, values, now, quality), catalog=self._table)

    def publish(self, samples: Samples, *, timeout_s: float | None = None, backfill: bool = False) -> None:
        """Publish measured values that this process owns; returns when they are in the shards' journals.

        Raises:
            Refused: Some samples were not taken (the first one is named); their neighbours were.
            NotJournaled: They are current, but could not be stored.
            WindowFull: The shards took nothing within the time.
            Timeout: Sent, but not acknowledged within the time; they are sent again until they are.
        """
        limit_s = self._asker.timeout_s if timeout_s is None else timeout_s
        result_of(self._publishes.put(samples, limit_s, backfill=backfill), limit_s + 1.0)

    def publish_soon(self, samples: Samples, *, timeout_s: float | None = None, backfill: bool = False) -> Future[None]:
        """Publish without waiting: the future ends as `publish` would. Many may be out at a time."""
        limit_s = self._asker.timeout_s if timeout_s is None else timeout_s
        return self._publishes.put(samples, limit_s, backfill=backfill)

    def on_lost(self, call: Callable[[], object] | None) -> None:
        """Call this when the plant had taken this process for lost, and hears it again: publish all that you own.

        A process that is stopped, or that the plant does not hear, for longer than 3 s is lost: what it publishes turns
        Bad, and stays so until it is published again, because only you know whether the old values still hold. It is
        called once for each such time, in a thread of its own, and may publish. Without it, there is a warning in the
        log `tagwerk.attach`.

        Args:
            call: What to do; None: nothing more than the warning.
        """
        self._publishes.on_lost = call

    def watch(self, *globs: str, mode: Literal["latest", "every"] = "latest") -> TagWatch:
        """Follow the tags that match: the first batches are the snapshot, then every change.

        Args:
            globs: Names or globs.
            mode: `every`: each sample. `latest`: what waits while you do not look is joined, the last value a tag.

        Raises:
            Refused: A glob is malformed, or a name is unknown.
        """
        for glob in globs:
            problem = glob_problem(glob)
            if problem is not None:
                raise Refused(RefusedCode.BAD_VALUE, f"{glob!r}: {problem}")
            if not is_glob(glob):
                self.definition(glob)
        watch = TagWatch(
            self._engine, self._table, globs or ("*",), latest=mode == "latest", on_close=self._watches.remove
        )
        self._watches.append(watch)
        return watch

    # --- history and alarms ------------------------------------------------------------------------------------------

    def history(
        self,
        tags: str | Iterable[str],
        start: datetime | int,
        end: datetime | int,
        *,
        limit: int | None = None,
        bounds: bool = False,
        newest: bool = False,
    ) -> dict[str, Samples]:
        """Samples of these tags with `start <= time < end`, oldest first.

        Args:
            tags: A name, or several.
            start: An aware datetime, or UTC ns since 1970.
            end: As `start`.
            limit: At most so many a tag.
            bounds: Also the last sample before `start` and the first one at or after `end`.
            newest: With `limit`, the last ones of the span instead of the first.

        Raises:
            Refused: There is no such tag.
            Unavailable: The historian does not answer.
        """
        names = [tags] if isinstance(tags, str) else list(tags)
        span = (as_ns(start), as_ns(end))
        wanted = {name: self.definition(name) for name in names}
        return {
            name: replace(history_of(self._asker, tag, span, limit, bounds, newest), catalog=self._table)
            for name, tag in wanted.items()
        }

    def alarms(self, *, only_open: bool = False, names: Iterable[str] = ()) -> list[AlarmRow]:
        """The alarms of the plant and how they stand."""
        return list(self.query("alarms/0", GetAlarms(only_open, tuple(names)), AlarmList).alarms)

    def ack(self, name: str, *, occurrence: str = "", comment: str = "") -> AlarmRow:
        """Acknowledge an alarm.

        Raises:
            Refused: There is no such alarm, or nothing to acknowledge, or it is another occurrence by now.
        """
        reply = self.ask("alarms/0", AckAlarm(name, self.user, self.host, occurrence, comment))
        if not isinstance(reply, AlarmAcked):
            msg = f"alarms/0 answered {type(reply).__name__}"
            raise Unavailable(msg)
        return reply.alarm


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a uid without a name
        return str(os.getuid())


def attach(
    address: str | None = None,
    *,
    writer: str | None = None,
    home: Path | str | None = None,
    key: Path | None = None,
    timeout_s: float = 5.0,
) -> Plant:
    """Take part in a running plant.

    Args:
        address: None: the plant on this host. `tcp://host:port` needs the gate, which this version does not have.
        writer: A name of letters, digits and underscores: this process publishes under it, and goes on where it
            stopped after a restart. A second live process of the same name is refused.
        home: The plant's home; default `TAGWERK_HOME`, else `var`.
        key: For `tcp://`.
        timeout_s: How long calls wait if they are not told otherwise.

    Raises:
        Unavailable: No plant runs there.
        ConfigError: An argument is wrong.
    """
    if address is not None or key is not None:
        msg = "attaching over tcp is not in this version"
        raise ConfigError(msg, key="address", value=str(address), expected="None: the plant on this host")
    if writer is not None and _WRITER.fullmatch(writer) is None:
        msg = "not a writer's name"
        raise ConfigError(msg, key="writer", value=writer, expected="lower-case letters, digits and underscores")
    return Plant(Home(Path(home)) if home is not None else Home.default(), writer, timeout_s)
