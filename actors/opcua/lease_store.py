"""Where leases survive the death of the link: one small file, written whole."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol, final

import msgspec

from tagwerk.actors.opcua.logic.leases import Lease
from tagwerk.protocols.codec import pack, unpack
from tagwerk.protocols.errors import ConfigError, RemoteProtocolError
from tagwerk.protocols.samples import Value

FORMAT: Final = 1
_ROW = tuple[str, tuple[int, ...], tuple[Value, ...], float]


class LeaseStore(Protocol):
    """Keeps the lease table."""

    def load(self) -> tuple[list[Lease], dict[int, Value]]:
        """Leases that were live, and safe values that were due."""
        ...

    def save(self, leases: Sequence[Lease], due: dict[int, Value]) -> None:
        """Keep this, on the disk, before returning.

        Raises:
            OSError: It could not be written; what was kept before is still there.
        """
        ...


@final
class LeaseFile:
    """A `LeaseStore` in one file.

    Args:
        path: `leases.msgpack` in the link's data directory.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> tuple[list[Lease], dict[int, Value]]:
        """See `LeaseStore.load`.

        Raises:
            ConfigError: The file is not ours: what it held must be looked at before outputs are written.
        """
        if not self._path.exists():
            return [], {}
        try:
            version, rows, due = unpack(self._path.read_bytes())
            if version != FORMAT:
                raise ConfigError("unknown format", file=str(self._path), value=str(version), expected=str(FORMAT))
            leases = [Lease(*row, until_ns=0) for row in msgspec.convert(rows, list[_ROW])]
            return leases, dict(msgspec.convert(due, list[tuple[int, Value]]))
        except (RemoteProtocolError, ValueError, TypeError, msgspec.ValidationError) as error:
            raise ConfigError(
                f"the lease table cannot be read: {error}", file=str(self._path),
                expected="a sound file; remove it after a look at the outputs",
            ) from error  # fmt: skip

    def save(self, leases: Sequence[Lease], due: dict[int, Value]) -> None:
        """See `LeaseStore.save`."""
        rows = [[lease.name, list(lease.handles), list(lease.safe), lease.lease_s] for lease in leases]
        draft = self._path.with_name(self._path.name + ".new")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(pack([FORMAT, rows, [[handle, value] for handle, value in due.items()]]))
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self._path)
        directory = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


@final
class LeaseMemory:
    """A `LeaseStore` that forgets with its process: for tests."""

    def __init__(self) -> None:
        self.kept: tuple[list[Lease], dict[int, Value]] = ([], {})

    def load(self) -> tuple[list[Lease], dict[int, Value]]:
        """See `LeaseStore.load`."""
        return self.kept

    def save(self, leases: Sequence[Lease], due: dict[int, Value]) -> None:
        """See `LeaseStore.save`."""
        self.kept = (list(leases), dict(due))
