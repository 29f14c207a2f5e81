"""The actor `opcua/NAME`: one link, its writes and its leases."""

from __future__ import annotations

import asyncio
import logging
import random
import sqlite3
from functools import partial
from pathlib import Path
from typing import Final, final

from sqlite_utils import Database

from tagwerk.actors.opcua.asyncua_mends import quiet_asyncua
from tagwerk.actors.opcua.client import UaDevice
from tagwerk.actors.opcua.lease_keeper import LeaseKeeper
from tagwerk.actors.opcua.lease_store import LeaseFile
from tagwerk.actors.opcua.link import PATIENCE_S, Link
from tagwerk.actors.opcua.logic.items import ItemTable
from tagwerk.actors.opcua.logic.writes import check_tag
from tagwerk.actors.opcua.outflow import Outflow
from tagwerk.actors.opcua.writer import Writer
from tagwerk.protocols.errors import ConfigError, Refused, RefusedCode
from tagwerk.protocols.message import Message, Refusal
from tagwerk.protocols.plantwide import Event
from tagwerk.protocols.tags import DropLease, HoldLease, SetOutput, TagDef, TagWritten
from tagwerk.runtime import levels
from tagwerk.runtime.actor import AsyncActor, Later, Sender
from tagwerk.runtime.context import ActorContext
from tagwerk.runtime.outbox import Outbox
from tagwerk.runtime.plantfile_models import OpcuaConfig
from tagwerk.runtime.ua_security import Security, read_password

COUNTERS: Final = ("values", "overflows", "gaps", "connects", "batches dropped", "writes")
"""The slot's counters, by number."""

READY_LIMIT_S: Final = 5.0
STOP_LIMIT_S: Final = 1.0
_COUNT_S: Final = 0.5
_LOOK_S: Final = 0.002


@final
class OpcuaLink(AsyncActor):
    """Feeds the tags whose source it is, and writes to them.

    It is ready without a PLC: its tags then say BadNoCommunication.
    """

    def __init__(self, context: ActorContext) -> None:
        super().__init__(context)
        self._writes = 0
        self._stopping = False
        self._jobs: set[asyncio.Task[None]] = set()
        self._told_refused: set[tuple[int, str]] = set()

    def on_start(self) -> None:
        """Build the link and start it; its first connection is tried at once.

        Raises:
            ConfigError: The plant file or a file it names is wrong.
        """
        quiet_asyncua()
        config = self._config()
        security = self._security(config)
        self._open_outbox()
        self._items = ItemTable(self.definitions.of_source(self.name))
        moving = [tag.name for tag in self._items.tags if tag.node.startswith("ns=")]
        if moving:
            text = "%d nodes are given by ns=, which may move when the server restarts: write nsu=URI; (%s, ...)"
            self.log.warning(text, len(moving), moving[0])
        publisher = self.publisher()
        publisher.on_refused = self._refused
        self._outflow = Outflow(publisher, self.after, self.log)
        self._link = Link(
            config, self._items, partial(UaDevice, config, security), self._outflow, self.clock, random.random, self.log
        )
        self._outflow.on_caught_up = self._link.read_all_again
        self._writer = Writer(self.clock, lambda: self._link.device, self._link)
        store = LeaseFile(self.context.home.actor_data(self.name) / "leases.msgpack")
        self._keeper = LeaseKeeper(
            self._items.by_handle, store, self._writer, self.clock, self.after, self._safe_values_due,
            partial(self._audit, "lease"), self.log,
        )  # fmt: skip
        self._keeper.restore()
        self._link.first_act = self._keeper.write_due
        self._link.on_connection = self._connection
        publisher.on_reborn = self._link.read_all_again
        publisher.open_all()
        now_ns = self.clock.mono_ns()
        self._ready_by_ns = now_ns + round(READY_LIMIT_S * 1e9)
        # When the plant comes up, who waits for it wants to write; a link that was restarted answers at once.
        page = self.context.page
        began_ns = page.slot(page.names()[0]).read().started_mono_ns  # the node's
        self._patient_until_ns = began_ns + round(PATIENCE_S * 1e9)
        self._when_open()
        self.every(_COUNT_S, self._count)
        self._life = self.spawn(self._link.run())

    def on_message(self, message: Message, sender: Sender) -> Message | Later | None:
        """`SetOutput`, `HoldLease`, `DropLease`."""
        if isinstance(message, SetOutput):
            return self._set_output(message, sender)
        if isinstance(message, HoldLease):
            return self._keeper.hold(message)
        if isinstance(message, DropLease):
            return self._keeper.drop(message)
        return super().on_message(message, sender)

    async def on_stop_async(self) -> None:
        """A clean end: the last writes get a moment, then the session is closed, then the tags are said goodbye to."""
        self._stopping = True
        # Machines stop before their link: what their leases owe is due now, and not when the plant comes up again.
        self._safe_values_due()
        if self._jobs:
            await asyncio.wait(self._jobs, timeout=STOP_LIMIT_S)
        # The link first: a session that is closed on purpose must not look like a loss.
        self._life.cancel()
        await asyncio.gather(self._life, return_exceptions=True)
        self.publisher().goodbye()

    # --- writes ---

    def _set_output(self, message: SetOutput, sender: Sender) -> Message | Later:
        tag = self._items.by_handle.get(message.handle)
        try:
            if tag is None:
                raise Refused(RefusedCode.NOT_OWNER, f"{self.name} has no tag with handle {message.handle}")
            if self._stopping:
                raise Refused(RefusedCode.NO_COMMUNICATION, "the link is being stopped", tag.name)
            check_tag(tag, message.value)
            self._keeper.check_write(tag, message.lease)
        except Refused as error:
            return Refusal(error.code, error.message, error.tag)
        later = Later()
        self._job(self._write(tag, message, sender.deadline_ns, later))
        return later

    async def _write(self, tag: TagDef, message: SetOutput, deadline_ns: int, later: Later) -> None:
        check = partial(self._keeper.check_write, tag, message.lease)
        outcome = await self._writer.write(tag, message.value, deadline_ns, check)
        if isinstance(outcome, TagWritten):
            self._writes += 1
            self._keeper.overwritten(tag.handle)
        # The shard has the audit; this is for who looks for the reason of a write that was not done.
        level = logging.DEBUG if isinstance(outcome, TagWritten) else logging.INFO
        self.log.log(level, "write %s = %r by %s: %s", tag.name, message.value, message.by or "?", outcome)
        later.reply(outcome)

    def _safe_values_due(self) -> None:
        # While not connected they stay due: the next session begins with them.
        if self._link.device is not None:
            self._job(self._keeper.write_due())

    def _job(self, work: object) -> None:
        task = self.spawn(work)  # type: ignore[arg-type]
        self._jobs.add(task)
        task.add_done_callback(self._jobs.discard)

    # --- the house ---

    def _config(self) -> OpcuaConfig:
        name = self.name.partition("/")[2]
        config = self.context.plant.opcua.get(name)
        if config is None:
            raise ConfigError("no such link", file=str(self.context.plant.path), key=f"opcua.{name}")
        return config

    def _security(self, config: OpcuaConfig) -> Security:
        key = f"opcua.{self.name.partition('/')[2]}"
        password = ""
        if config.password_file:
            path = Path(self.context.plant.path).parent / config.password_file
            password = read_password(path, f"{key}.password_file")
        if config.user and config.security != "sign_and_encrypt":
            self.log.warning("%s: the password travels readable unless security = 'sign_and_encrypt'", key)
        directory = self.context.home.actor_data(self.name) if config.security != "none" else None
        return Security(config.security, directory, config.user, password)

    def _when_open(self) -> None:
        """Ready when the shards know us, or when they took too long: outputs and leases need no shard."""
        now_ns = self.clock.mono_ns()
        opened = self.publisher().opened or now_ns >= self._ready_by_ns
        if opened and (self._link.device is not None or now_ns >= self._patient_until_ns):
            self.ready()
        else:
            self.after(_LOOK_S, self._when_open)

    def _open_outbox(self) -> None:
        path = self.context.home.actor_data(self.name) / "outbox.db"
        self._outbox_db = sqlite3.connect(path)
        database = Database(self._outbox_db)
        database.execute("PRAGMA synchronous=FULL")
        database.enable_wal()
        self.outbox = Outbox(self._outbox_db)

    def _connection(self, connected: bool, reason: str) -> None:
        self._audit("link", self.name, "connected" if connected else "lost", reason)

    def _audit(self, kind: str, target: str, after: str, reason: str) -> None:
        """What nobody but this link knows: connections, leases that lapsed, safe values."""
        if self.outbox is not None:
            with self._outbox_db:
                self.outbox.put(Event(self.clock.now_ns(), self.name, "", kind, target, "", after, reason))

    def _count(self) -> None:
        counts = self._link.counts
        row = (
            counts.values, counts.overflows, counts.gaps, counts.connects, self._outflow.dropped, self._writes,
        )  # fmt: skip
        for number, value in enumerate(row):
            self.context.slot.write_counter(number, value)
        level = {None: levels.LINK_UNKNOWN, True: levels.LINK_UP, False: levels.LINK_DOWN}[self._link.connected]
        self.context.slot.write_counter(levels.LINK_COUNTER, level)

    def _refused(self, handle: int, code: str) -> None:
        if (handle, code) not in self._told_refused:  # once each: a batch comes ten times a second
            self._told_refused.add((handle, code))
            self.log.error("the shard refused a sample of %s: %s", self.definitions.name_of(handle), code)
