"""Errors, by whose fault they are.

TagwerkError
  ConfigError          the plant file is wrong: nothing starts; names file, key, value and what would be right
  Refused              a clear no from the other side: code, message, tag; nothing was changed
  NotSent, Unknown     a command certainly not done; a command of which nobody knows
  LocalProtocolError   we broke our own protocol: a bug, the actor fails and is restarted
  RemoteProtocolError  a peer sent nonsense: it is counted and dropped
  Unavailable          the world is down
    Timeout PeerDown MailboxFull WindowFull NotJournaled DeviceGone
"""

from __future__ import annotations

from enum import StrEnum
from typing import final


class RefusedCode(StrEnum):
    """Why something was refused. The names are part of the interface."""

    UNKNOWN_TAG = "UnknownTag"
    READ_ONLY = "ReadOnly"
    WRONG_TYPE = "WrongType"
    OUT_OF_RANGE = "OutOfRange"
    BAD_VALUE = "BadValue"
    NOT_OWNER = "NotOwner"
    NO_COMMUNICATION = "NoCommunication"
    EXPIRED = "Expired"
    CONFLICT = "Conflict"
    NOT_PERMITTED = "NotPermitted"
    NOT_ACTIVE = "NotActive"


class TagwerkError(Exception):
    """The root of all errors that tagwerk raises on purpose."""


class ConfigError(TagwerkError):
    """The plant file, or what it names, is wrong.

    Args:
        message: What is wrong.
        file: The file it stands in.
        key: The key path, or `row N, column C` of a CSV.
        value: The offending value, as written.
        expected: What would be right.
        line: The line in the file, from 1, if known.
    """

    def __init__(
        self,
        message: str,
        *,
        file: str = "",
        key: str = "",
        value: str = "",
        expected: str = "",
        line: int | None = None,
    ) -> None:
        self.message = message
        self.file = file
        self.key = key
        self.value = value
        self.expected = expected
        self.line = line
        super().__init__(self._text())

    def _text(self) -> str:
        place = self.file + (f":{self.line}" if self.line is not None else "")
        parts = [part for part in (place, self.key) if part]
        text = ": ".join([*parts, self.message])
        if self.value:
            text += f" (got {self.value})"
        return f"{text}; expected {self.expected}" if self.expected else text


@final
class ConfigErrors(ConfigError):  # noqa: N818  the plural says what it is
    """All that is wrong with a plant file, gathered.

    Args:
        errors: At least one error.
    """

    def __init__(self, errors: list[ConfigError]) -> None:
        self.errors = errors
        super().__init__("\n".join(str(error) for error in errors))


class Refused(TagwerkError):  # noqa: N818  the name is part of the interface
    """A clear no from the other side; nothing was changed.

    Args:
        code: One of `RefusedCode`.
        message: Why, in words.
        tag: The tag it is about, or "".
    """

    def __init__(self, code: str, message: str, tag: str = "") -> None:
        self.code = code
        self.message = message
        self.tag = tag
        super().__init__(f"{code}: {message}")


class NotSent(TagwerkError):  # noqa: N818
    """A command that was certainly not done."""


class Unknown(TagwerkError):  # noqa: N818
    """A command that was handed over, and of whose outcome nobody knows."""


class LocalProtocolError(TagwerkError):
    """We broke our own protocol: a bug."""


class RemoteProtocolError(TagwerkError):
    """A peer sent what no correct peer sends."""


class Unavailable(TagwerkError):  # noqa: N818
    """Something that is needed is not there now."""


class Timeout(Unavailable):
    """No answer within the time given."""


class PeerDown(Unavailable):
    """The actor asked is not running, or died before it answered."""


class MailboxFull(Unavailable):
    """Too many messages to one actor wait for their receipts."""


class WindowFull(Unavailable):
    """Too many batches wait for their acknowledgement."""


class NotJournaled(Unavailable):
    """The shard took the values but could not store them: they are current, but not in history."""


class DeviceGone(Unavailable):
    """The device behind a tag cannot be reached."""
