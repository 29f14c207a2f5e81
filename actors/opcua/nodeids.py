"""NodeIds as the plant file writes them, and as one session of a server counts its namespaces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, final

from asyncua import ua
from asyncua.ua.uaerrors import UaError

BAD_NODE_ID_INVALID: Final = 0x8033_0000


@final
class Namespaces:
    """The namespaces of a server, as they stand in this session: their order may change when it restarts.

    Args:
        uris: The server's NamespaceArray.
    """

    def __init__(self, uris: Sequence[str]) -> None:
        self.uris = list(uris)
        self._resolved: dict[str, ua.NodeId | None] = {}

    def resolve(self, node: str) -> ua.NodeId | None:
        """`nsu=URI;s=...` or `ns=2;s=...` to the NodeId of this session; None if the server has no such namespace."""
        if node not in self._resolved:
            self._resolved[node] = self._parse(node)
        return self._resolved[node]

    def well_formed(self, node: str) -> bool:
        """True if the text is a NodeId at all."""
        uri, rest = split_uri(node)
        return _numeric_form(rest if uri else node) is not None

    def portable(self, nodeid: ua.NodeId) -> str:
        """A NodeId with the URI of its namespace, as a plant file should write it."""
        index = nodeid.NamespaceIndex
        plain = ua.NodeId(nodeid.Identifier, ua.Int16(0), nodeid.NodeIdType).to_string()
        if index == 0:
            return plain
        identifier = nodeid.to_string().partition(";")[2]
        return f"nsu={self.uris[index]};{identifier}" if index < len(self.uris) else nodeid.to_string()

    def _parse(self, node: str) -> ua.NodeId | None:
        uri, rest = split_uri(node)
        if not uri:
            return _numeric_form(node)
        if uri not in self.uris:
            return None
        return _numeric_form(f"ns={self.uris.index(uri)};{rest}")


def split_uri(node: str) -> tuple[str, str]:
    """`nsu=URI;rest` to (URI, rest); ("", node) without a URI."""
    if not node.startswith("nsu="):
        return "", node
    uri, _, rest = node[4:].partition(";")
    return uri, rest


def _numeric_form(node: str) -> ua.NodeId | None:
    try:
        return ua.NodeId.from_string(node)
    except (UaError, ValueError, TypeError):
        return None
