"""A publisher looks after what waits, and is quiet when nothing does."""

from __future__ import annotations

from typing import Any

import numpy as np

from tagwerk.protocols.samples import ValueType, make
from tagwerk.runtime.clock import ManualClock
from tagwerk.runtime.publisher import HURRY_S, Publisher
from tagwerk.runtime.reactor import Reactor
from tagwerk.runtime.transport_memory import MemoryNet, MemoryTransport


class Nowhere:
    def socket(self, name: str, suffix: str) -> str:
        return f"{name}.{suffix}"


def test_an_empty_batch_is_not_looked_after_for_ever() -> None:
    reactor = Reactor(MemoryTransport(MemoryNet()), ManualClock())
    nowhere: Any = Nowhere()
    publisher = Publisher(
        "w", reactor, nowhere, lambda tags: np.zeros(len(tags), np.intp), 1, incarnation=1, named=True
    )
    publisher.publish(make(ValueType.FLOAT, [], [], 1))
    assert reactor.next_due_ns(10**9) > HURRY_S * 1e9
    publisher.publish(make(ValueType.FLOAT, [1], [1.0], 1))
    assert publisher.pending == 1
