"""History as a Parquet file, a row group at a time. Needs pyarrow: `pip install tagwerk[parquet]`."""

from __future__ import annotations

import importlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import numpy as np

from tagwerk.protocols.errors import ConfigError, Refused, RefusedCode
from tagwerk.protocols.quality import BACKFILLED, name_of
from tagwerk.protocols.samples import ValueType

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from tagwerk.protocols.tags import TagDef
    from tagwerk.runtime.cli.history_read import Column
    from tagwerk.runtime.cli.history_steps import StepRows

GROUP_ROWS: Final = 1 << 17
"""Samples in a row group: so many are in memory at a time."""

GROUP_TEXT_BYTES: Final = 16 << 20

TYPED: Final = {"float": "value", "int": "value_int", "bool": "value_bool", "str": "value_str"}
"""Where values stand exactly if the tags are of several types."""


def arrow() -> tuple[Any, Any]:
    """Give `pyarrow` and `pyarrow.parquet`.

    Raises:
        ConfigError: It is not installed.
    """
    try:
        return importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise ConfigError(
            "Parquet needs pyarrow, which is not installed", expected="pip install 'tagwerk[parquet]', or CSV"
        ) from error


class ParquetSamples:
    """A Parquet file of samples: `time tag value unit quality backfilled`.

    Tags of one type: `value` is of it. Of several: `value` is a double, for every tag that is no text, and besides
    each type that is not float has a column of its own, `value_int value_bool value_str`: nothing is rounded there.

    Args:
        stream: Where to.
        tags: Whose samples will come.
    """

    def __init__(self, stream: BinaryIO, tags: Sequence[TagDef]) -> None:
        self._pa, parquet = arrow()
        self._kinds = {tag.type for tag in tags}
        self._names = {"value": next(iter(self._kinds))} if len(self._kinds) == 1 else self._several()
        schema = self._schema()
        floats = [name for name, kind in self._names.items() if kind == "float"]
        self._writer = parquet.ParquetWriter(
            stream, schema, compression="zstd", use_dictionary=["tag", "unit", "quality"],
            column_encoding={"time": "DELTA_BINARY_PACKED", **dict.fromkeys(floats, "BYTE_STREAM_SPLIT")},
        )  # fmt: skip
        self._schema_of_file = schema
        self._held: list[Any] = []
        self._held_rows = self._held_bytes = 0

    def _several(self) -> dict[str, str]:
        return {"value": "float", **{TYPED[kind]: kind for kind in TYPED if kind in self._kinds and kind != "float"}}

    def _schema(self) -> Any:
        pa = self._pa
        label = pa.dictionary(pa.int32(), pa.string())
        values = [(name, self._type(kind)) for name, kind in self._names.items()]
        head = [("time", pa.timestamp("ns", tz="UTC")), ("tag", label)]
        return pa.schema([*head, *values, ("unit", label), ("quality", label), ("backfilled", pa.bool_())])

    def _type(self, kind: str) -> Any:
        pa = self._pa
        return {"float": pa.float64(), "int": pa.int64(), "bool": pa.bool_(), "str": pa.string()}[kind]

    def write(self, columns: Iterable[Column]) -> None:
        """Write samples, as they come, and the end of the file."""
        with _closed_at_the_end(self._writer):
            for column in columns:
                self._held.append(self._table(column))
                self._held_rows += len(column)
                self._held_bytes += self._held[-1].nbytes if column.tag.type == "str" else 0
                if self._held_rows >= GROUP_ROWS or self._held_bytes >= GROUP_TEXT_BYTES:
                    self._flush()
            self._flush()

    def _flush(self) -> None:
        if self._held:
            table = self._pa.concat_tables(self._held).unify_dictionaries()
            self._writer.write_table(table, row_group_size=max(1, len(table)))
        self._held, self._held_rows, self._held_bytes = [], 0, 0

    def _table(self, column: Column) -> Any:
        pa = self._pa
        count = len(column)
        codes, which = np.unique(column.quality, return_inverse=True)
        names = pa.array([name_of(code) for code in codes.tolist()], pa.string())

        def label(text: str) -> Any:
            return pa.DictionaryArray.from_arrays(np.zeros(count, np.int32), pa.array([text], pa.string()))

        arrays = [
            pa.array(column.times, pa.timestamp("ns", tz="UTC")),
            label(column.tag.name),
            *(self._values(column, name, kind) for name, kind in self._names.items()),
            label(column.tag.unit),
            pa.DictionaryArray.from_arrays(which.astype(np.int32), names),
            pa.array((column.quality & BACKFILLED) != 0),
        ]
        return pa.Table.from_arrays(arrays, schema=self._schema_of_file)

    def _values(self, column: Column, name: str, kind: str) -> Any:
        mine = column.tag.type
        if column.values is None or (mine != kind and (name != "value" or mine == "str")):
            return self._pa.nulls(len(column), self._type(kind))
        if mine != kind:  # `value` of an int or a bool beside other types
            return self._pa.array(np.asarray(column.values, np.float64))
        found = self._pa.array(column.values, self._type(kind))
        return found


@contextmanager
def _closed_at_the_end(writer: Any) -> Iterator[None]:
    """Close a ParquetWriter; one whose file is given up is not, for it would write to what is closed."""
    try:
        yield
    except BaseException:
        writer.is_open = False
        raise
    writer.close()


def write_steps(stream: BinaryIO, names: Sequence[str], tags: Sequence[TagDef], rows: Iterable[StepRows]) -> None:
    """Write steps: `time tag`, the columns, `unit`. A column of tags of several types is a double.

    Args:
        stream: Where to.
        names: The columns.
        tags: Whose steps will come.
        rows: The steps.

    Raises:
        Refused: Numbers and texts cannot stand in one column.
    """
    pa, parquet = arrow()
    kinds = {name: _kind_of(pa, name, tags) for name in names}
    label = pa.dictionary(pa.int32(), pa.string())
    fields = [("time", pa.timestamp("ns", tz="UTC")), ("tag", label), *kinds.items(), ("unit", label)]
    schema = pa.schema(fields)
    writer = parquet.ParquetWriter(stream, schema, compression="zstd")
    with _closed_at_the_end(writer):
        for group in _groups(rows):
            tables = [_step_table(pa, schema, kinds, piece) for piece in group]
            table = pa.concat_tables(tables).unify_dictionaries()
            writer.write_table(table, row_group_size=max(1, len(table)))


def _groups(rows: Iterable[StepRows]) -> Iterator[list[StepRows]]:
    held: list[StepRows] = []
    count = 0
    for piece in rows:
        held.append(piece)
        count += len(piece.times)
        if count >= GROUP_ROWS:
            yield held
            held, count = [], 0
    if held:
        yield held


def _kind_of(pa: Any, name: str, tags: Sequence[TagDef]) -> Any:
    if name == "count":
        return pa.int64()
    if name not in ("value", "min", "max"):
        return pa.float64()
    kinds = {tag.type for tag in tags}
    if "str" in kinds and len(kinds) > 1:
        if name == "value":
            text = next(tag.name for tag in tags if tag.type == "str")
            raise Refused(
                RefusedCode.WRONG_TYPE, f"{text} holds texts, others numbers: not in one Parquet column of steps", text
            )
        kinds.discard("str")
    only = next(iter(kinds)) if len(kinds) == 1 else "float"
    if only == "str":
        return pa.string()
    return {"float": pa.float64(), "int": pa.int64(), "bool": pa.bool_()}[only]


def _step_table(pa: Any, schema: Any, kinds: dict[str, Any], piece: StepRows) -> Any:
    count = len(piece.times)

    def label(text: str) -> Any:
        return pa.DictionaryArray.from_arrays(np.zeros(count, np.int32), pa.array([text], pa.string()))

    cells: list[Any] = []
    for name, kind in kinds.items():
        column = piece.columns.get(name)
        if column is None:
            cells.append(pa.nulls(count, kind))
        elif column.kind is ValueType.STR:
            cells.append(pa.array(column.plain(), kind))
        else:
            typed = np.asarray(column.values).astype(kind.to_pandas_dtype())
            cells.append(pa.array(typed, kind, mask=~column.present))
    times = pa.array(piece.times, pa.timestamp("ns", tz="UTC"))
    return pa.Table.from_arrays([times, label(piece.tag.name), *cells, label(piece.tag.unit)], schema=schema)
