"""The tags that an actor of orders owns: what is put in goes out when it changes."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final, final

from tagwerk.protocols.errors import Refused, WindowFull
from tagwerk.protocols.samples import TYPE_NAMES, Value, make

if TYPE_CHECKING:
    from tagwerk.runtime.actor import Actor

_AS: Final = MappingProxyType({"str": str, "int": int, "bool": bool, "float": float})
"""What the plant file declares decides; a name of an Enum becomes a plain text."""


@final
class TagSheet:
    """See the module.

    Args:
        actor: Whose.
    """

    def __init__(self, actor: Actor) -> None:
        self._actor = actor
        self._tags = {tag.name: tag for tag in actor.definitions.of_source(actor.name)}
        self._values: dict[str, Value] = {}
        self._shown: dict[str, Value] = {}
        if self._tags:
            actor.publisher().on_reborn = self._again
            actor.publisher().open_all()

    def _again(self) -> None:
        """A shard had taken us for lost: all of it is published again."""
        self._shown.clear()
        self.flush()

    def put(self, name: str, value: Value) -> None:
        """Set the value of a tag; one that the plant does not have is left out."""
        if name in self._tags:
            self._values[name] = _AS[self._tags[name].type](value)

    def flush(self) -> bool:
        """Publish what is different now. False: a shard has no room; what is left goes out with a later flush."""
        now_ns = self._actor.clock.now_ns()
        for name, value in self._values.items():
            if name in self._shown and self._shown[name] == value:
                continue
            tag = self._tags[name]
            try:
                self._actor.publisher().publish(make(TYPE_NAMES[tag.type], [tag.handle], [value], now_ns))
            except WindowFull:
                return False
            except Refused as refused:
                self._actor.log.error("publishing %s: %s", name, refused)
            self._shown[name] = value
        return True

    def goodbye(self) -> None:
        """A clean end."""
        if self._tags:
            self._actor.publisher().goodbye()
