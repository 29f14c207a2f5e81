"""Orders as tags: how many there are, and how the newest ones stand, each in a slot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from tagwerk.actors.orders.tag_sheet import TagSheet

if TYPE_CHECKING:
    from tagwerk.actors.orders.crew import Crew

PUBLISH_S: Final = 0.2
NAMES_LIMIT: Final = 20
"""Services that run, in one text."""


@final
class CrewTags:
    """The crew's tags: `order.running`, `order.unknown`, ... and `order.slotN.id|state|finished|services`.

    Args:
        crew: Whose.
    """

    def __init__(self, crew: Crew) -> None:
        self._crew = crew
        self._sheet = TagSheet(crew)
        self._slots: list[str] = [""] * crew.slots
        self._due = False
        for order_id in crew.live:
            self.changed(order_id)
        self._soon()

    def changed(self, order_id: str) -> None:
        """An order looks different now; a new one takes a slot that is free, else the one that ended first."""
        self._soon()
        live = self._crew.live[order_id]
        if order_id not in self._slots:
            free = [place for place, held in enumerate(self._slots) if held not in self._crew.live]
            if not free:
                return
            empty = [place for place in free if not self._slots[place]]
            self._slots[(empty or free)[0]] = order_id
        place = self._slots.index(order_id)
        life = live.order.life
        running = sorted(f"{one.number} {one.name}" for one in life.services.values())
        for key, value in (
            ("id", order_id), ("state", life.shown), ("finished", life.finished),
            ("services", ", ".join(running[:NAMES_LIMIT])),
        ):  # fmt: skip
            self._sheet.put(f"order.slot{place + 1}.{key}", value)

    def _soon(self) -> None:
        if not self._due:
            self._due = True
            self._crew.after(PUBLISH_S, self._tick)

    def _tick(self) -> None:
        self._due = False
        lives = [live.order.life for live in self._crew.live.values()]
        services = [one.state for life in lives for one in life.services.values()]
        self._sheet.put("order.running", sum(life.state == "RUNNING" for life in lives))
        self._sheet.put("order.executing", services.count("SENT"))
        self._sheet.put("order.waiting", services.count("WAITING"))
        self._sheet.put("order.unknown", services.count("UNKNOWN"))
        self._sheet.put("order.in_doubt", "UNKNOWN" in services)
        if not self._sheet.flush():
            self._soon()

    def goodbye(self) -> None:
        """A clean end."""
        self._sheet.goodbye()
