"""The definitions as a client gets them: from the file of `plant/0` if it is within reach, else by messages."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from tagwerk.protocols.errors import ConfigError
from tagwerk.protocols.tags import Definitions, GetDefinitions, TagDef
from tagwerk.runtime import definitions
from tagwerk.runtime.definitions import DefinitionTable

if TYPE_CHECKING:
    from tagwerk.runtime.attach_ask import Asker
    from tagwerk.runtime.home import Home

PAGE: Final = 10_000
"""Definitions asked for at once."""
_log: Final = logging.getLogger("tagwerk.attach")


def definitions_of(asker: Asker, home: Home) -> DefinitionTable:
    """The definitions that `plant/0` serves now.

    Raises:
        Unavailable: It does not answer.
    """
    page = asker.query("plant/0", GetDefinitions(0, 1), Definitions)
    try:
        # plant/0 writes the file before it tells its revision: if they agree, a million tags need not be sent.
        stored = definitions.load(home)
    except ConfigError as error:
        _log.debug("the definitions come by messages: %s", error)
    else:
        if (stored.revision, len(stored.tags)) == (page.revision, page.total):
            return stored
    tags: list[TagDef] = []
    while True:
        page = asker.query("plant/0", GetDefinitions(len(tags), PAGE), Definitions)
        tags.extend(page.tags)
        if len(tags) >= page.total or not page.tags:
            return DefinitionTable(page.revision, tags)
