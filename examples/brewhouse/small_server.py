"""asyncua's server with a small namespace 0, as a device of little memory has it: 53 MB in all, not 95."""

import asyncio
import ctypes
import gc
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import asyncua.server
from asyncua import ua
from asyncua.server.internal_server import InternalServer

PACKAGE: Final = "asyncua.server.standard_address_space"
OF_1_02: Final = 12_000
"""Numbers below it are those of OPC UA 1.02."""
BASE_ANALOG_TYPE: Final = 15_318  # newer, but the parent of AnalogItemType


class SmallInternalServer(InternalServer):
    """Leaves out what came with OPC UA 1.03 and later: PubSub, security keys, devices' certificates, ..."""

    async def load_standard_address_space(self, shelf_file: Path | None = None) -> None:
        """Make the nodes of 1.02, a third of them all."""
        await asyncio.to_thread(self._make)
        await asyncio.to_thread(_forget)

    def _make(self) -> None:
        from asyncua.server.standard_address_space import standard_address_space_services as parts

        kept = _Kept(self)
        parts.create_standard_address_space_Services(kept)  # type: ignore[no-untyped-call]
        kept.finish()


def _forget() -> None:
    """Give back 10 MB of code that runs once: the package above it, and its own functions, hold it, too."""
    for name in [name for name in sys.modules if name.startswith(PACKAGE)]:
        del sys.modules[name]
    del asyncua.server.standard_address_space
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's
    if trim is not None:
        trim(0)


class _Kept:
    """Takes the standard nodes as asyncua's own `PostponeReferences` does, and adds those of 1.02."""

    def __init__(self, server: InternalServer) -> None:
        self._service: Any = server.node_mgt_service
        self._early: list[ua.AddNodesItem] = []
        self._references: list[ua.AddReferencesItem] = []

    def add_nodes(self, nodes: Sequence[ua.AddNodesItem]) -> None:
        """Some come before their parents."""
        wanted = [node for node in nodes if _is_kept(node.RequestedNewNodeId)]
        self._early.extend(self._service.try_add_nodes(wanted, check=False))

    def add_references(self, references: Iterable[ua.AddReferencesItem]) -> None:
        """Between two that are kept."""
        self._references += [one for one in references if _is_kept(one.SourceNodeId) and _is_kept(one.TargetNodeId)]

    def finish(self) -> None:
        """Add what waited; what still has no parent stood below a node that is left out."""
        list(self._service.try_add_nodes(self._early, check=False))
        list(self._service.try_add_references(self._references))


def _is_kept(node: ua.NodeId | ua.ExpandedNodeId) -> bool:
    number: Any = node.Identifier
    return bool(number < OF_1_02 or number == BASE_ANALOG_TYPE)
