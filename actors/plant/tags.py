"""All tags of a plant: those of its file first, then those that only its machines' classes name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from msgspec import structs

from tagwerk.protocols.tags import TagDef
from tagwerk.runtime.plantfile_models import LogRule

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tagwerk.actors.plant.logic import Places
    from tagwerk.runtime.inspection import PublishedTag
    from tagwerk.runtime.plantfile_columns import TagColumns
    from tagwerk.runtime.plantfile_models import TagConfig

_NONE: Final = -1


class PlantTags:
    """The tags by their rows: one of the file is never made whole before its definition is.

    Args:
        declared: Those of the plant file.
        published: Those of the machines' classes; where both name one, the file is right.
    """

    def __init__(self, declared: TagColumns, published: Sequence[PublishedTag]) -> None:
        self._declared = declared
        self._published = [tag for tag in published if tag.name not in declared]
        # Of each tag's pattern; of one that a machine publishes: nobody's.
        self._numbers = np.append(declared.numbers.astype(np.intp), np.full(len(self._published), _NONE))

    def __len__(self) -> int:
        return len(self._numbers)

    def names(self) -> list[str]:
        """The names, in order."""
        return [*self._declared, *(tag.name for tag in self._published)]

    def types(self) -> list[tuple[str, str]]:
        """Type and unit of each, in order."""
        declared = [(pattern.type, pattern.unit) for pattern in self._declared.patterns]
        published = [(tag.type, tag.unit) for tag in self._published]
        return [*(declared[number] for number in self._numbers.tolist() if number != _NONE), *published]

    def definitions(self, names: Sequence[str], places: Places) -> Iterator[TagDef]:
        """Make the definitions, in the order of their handles."""
        declared = self._declared
        patterns = [_declared(pattern) for pattern in declared.patterns]
        order = np.argsort(places.handles)
        columns = (order, self._numbers[order], places.handles[order], places.shards[order])
        for row, number, handle, shard in zip(*(column.tolist() for column in columns), strict=True):
            if number == _NONE:
                yield _published(self._published[row - len(declared)], handle, shard)
                continue
            node, description = declared.node(row), declared.description(row)
            yield structs.replace(
                patterns[number], handle=handle, shard=shard, name=names[row], node=node, description=description
            )


def _declared(tag: TagConfig) -> TagDef:
    rule = tag.log if isinstance(tag.log, LogRule) else LogRule()
    return TagDef(
        handle=0,
        shard=0,
        name=tag.name,
        type=tag.type,
        unit=tag.unit,
        display_unit=tag.display_unit,
        low=tag.low,
        high=tag.high,
        write_low=tag.write_low,
        write_high=tag.write_high,
        deadband=tag.deadband,
        deadband_pct=tag.deadband_pct,
        stale_after_s=tag.stale_after_s,
        hold_s=tag.hold_s,
        source=tag.source,
        node=tag.node,
        writable=tag.writable,
        default=tag.default,
        log=tag.log is not False,
        labels=tuple(tag.labels),
        description=tag.description,
        area=tag.area,
        log_deadband=rule.deadband,
        log_max_interval_s=rule.max_interval_s,
        log_compression_dev=rule.compression_dev,
    )


def _published(tag: PublishedTag, handle: int, shard: int) -> TagDef:
    return TagDef(handle, tag.name, tag.type, shard, tag.unit, source=tag.source, description=tag.description)
