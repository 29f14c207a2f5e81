"""What chaos adds to a plant file: tags and alarms, a device with its link and machine, small journals. Pure."""

from __future__ import annotations

import json
import re
import sys
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tagwerk.runtime.chaos.commands import BEAT, COMMAND, LEASE_S, NAMESPACE, PULSE
from tagwerk.runtime.chaos.numbers import FILLER, WriterSpec

RESTARTS: Final = 1_000
"""Restarts that the node allows per period: kills in a test come closer together than failures in a plant."""
EXAMPLE_PORT: Final = "4840"
CAP_BYTES: Final = 16 << 20
"""Of each journal: small, so that it can be filled once in a run."""
_DEVICE_TAGS: Final = ((BEAT, False), (COMMAND, True), (PULSE, True))


def edited(text: str, writers: Iterable[WriterSpec], port: int | None, device: Device) -> str:
    """Give the text of a plant file with what chaos needs in it, small journals, and a node that never gives up.

    Args:
        text: The user's.
        writers: Whose tags and alarms.
        port: For the PLC of the example plant; None: it is another plant, its links stay as they are.
        device: What commands and pulses go to.
    """
    if port is not None:
        text = text.replace(f"127.0.0.1:{EXAMPLE_PORT}", f"127.0.0.1:{port}")
        text = text.replace("python plc.py --speed 30", f"python plc.py --speed 30 --port {port}")
    text = _with(text, "node.main", "restarts", RESTARTS)
    parts = [_with(text, "journal", "cap_bytes", CAP_BYTES), device.sections()]
    for spec in (*writers, FILLER):
        parts += (f'[tag."{name}"]\ndescription = "Numbers of chaos"\n' for name in spec.tag_names)
        parts += (
            f'[alarm."{alarm}"]\ntag = "{tag}"\ntype = "HI"\nlimit = 0.0\ntext = "Chaos: nothing to be done."\n'
            for alarm, tag in zip(spec.alarm_names, spec.tag_names, strict=False)
        )
    return "\n".join(parts)


def _with(text: str, section: str, key: str, value: int) -> str:
    line = f"{key} = {value}\n"
    there: dict[str, Any] = tomllib.loads(text)
    for part in section.split("."):
        there = there.get(part, {})
    head = re.escape(f"[{section}]")
    found = re.search(rf"^{head}[^\n]*\n(?:(?!\[)[^\n]*(?:\n|$))*", text, re.MULTILINE)
    if found is None:  # `[node]` with `main = {...}` in it: sound TOML, but nobody writes it
        return text if there else f"{text}\n[{section}]\n{line}"
    title, _, body = found[0].partition("\n")
    body = re.sub(rf"^{key}\s*=[^\n]*\n?", "", body, flags=re.MULTILINE)
    return text[: found.start()] + f"{title}\n{line}{body}" + text[found.end() :]


@dataclass(frozen=True, slots=True)
class Device:
    """The device of chaos, its link and the machine that pulses, as sections of a plant file.

    Args:
        port: Where it listens.
        log: What it carried out.
    """

    port: int
    log: Path

    def sections(self) -> str:
        """Give the text."""
        program = [sys.executable, "-P", "-m", "tagwerk.runtime.chaos.device"]
        command = json.dumps([*program, "--port", str(self.port), "--log", str(self.log)])
        parts = [
            f"[external.chaos]\ncommand = {command}\n",
            f'[opcua.chaos]\nurl = "opc.tcp://127.0.0.1:{self.port}/"\n'
            "publish_interval_s = 0.1\nsample_interval_s = 0.1\n",
            '[machine.chaos]\nclass = "tagwerk.actors.machines.pulse:Pulse"\ninterval_s = 0.2\n'
            f'after_restart = "wait"\nlease_s = {LEASE_S}\n',
        ]
        parts += (
            f'[tag."chaos.device.{node}"]\nsource = "opcua/chaos"\nnode = "nsu={NAMESPACE};s={node}"\n'
            f"writable = {str(writable).lower()}\n"
            for node, writable in _DEVICE_TAGS
        )
        return "\n".join(parts)
