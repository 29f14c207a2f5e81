"""A process that measures: `python -m tagwerk.runtime.bench.work WHERE TASK` prints what came of it as JSON.

    work floor TASK     with bare libraries; sockets and files in the current directory
    work path TASK      with tagwerk, on a plant that is up
    work node HOME PLANT    becomes the node of a plant

In a process of its own, because it forks: it has one thread and no socket then. It dies with who started it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

import msgspec

from tagwerk.protocols.errors import TagwerkError, Unavailable
from tagwerk.runtime.bench.forks import scratch
from tagwerk.runtime.bench.tasks import Asks, Delays, Flow, Flowed, Kills, Task
from tagwerk.runtime.process import die_with_parent

PARENT: Final = "TAGWERK_BENCH_PARENT"
"""Environment: the pid of who started it."""
MODULE: Final = "tagwerk.runtime.bench.work"
LIMIT_S: Final = 900.0
_TASKS: Final[Mapping[str, type[Any]]] = MappingProxyType({kind.__name__: kind for kind in (Flow, Asks, Kills)})


def measured(task: Task) -> Any:
    """Have a process carry a task out: with tagwerk if it names a home, else the floor.

    Returns:
        `Flowed` of a `Flow`, else `Delays`.

    Raises:
        Unavailable: It came to nothing; the last thing the process said is in the message.
    """
    words = msgspec.json.encode([type(task).__name__, msgspec.to_builtins(task)]).decode()
    with scratch("tw-floor-") as folder:  # ours, because it may be killed
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", MODULE, "path" if task.home else "floor", words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=folder,
            start_new_session=True,  # a Ctrl-C in this terminal is not for it
            env=os.environ | {PARENT: str(os.getpid()), "OPENBLAS_NUM_THREADS": "1"},
        )
        try:
            out, complaint = process.communicate(timeout=LIMIT_S)
        finally:
            process.kill()  # what it forked dies with it
            process.wait()
    if process.returncode != 0:
        said = complaint.decode(errors="replace").strip().splitlines() or ["it said nothing"]
        raise Unavailable(f"a measurement came to nothing: {said[-1]}")
    return msgspec.json.decode(out, type=Flowed if isinstance(task, Flow) else Delays)


def main(arguments: list[str]) -> int:
    """Carry out what the command line says."""
    die_with_parent(int(os.environ[PARENT]))
    where, *rest = arguments
    if where == "node":
        home, plant = rest
        os.execv(sys.executable, [sys.executable, "-P", "-m", "tagwerk.runtime.node", "--home", home, "--plant", plant])
    name, fields = msgspec.json.decode(rest[0])
    try:
        result = _doer(where, name)(msgspec.convert(fields, _TASKS[name]))
    except TagwerkError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(msgspec.json.encode(result).decode())
    return 0


def _doer(where: str, name: str) -> Callable[[Any], object]:
    doers: dict[str, Callable[[Any], object]]
    if where == "floor":
        from tagwerk.runtime.bench import floor, floor_restart

        doers = {"Flow": floor.flow, "Asks": floor.ask, "Kills": floor_restart.kills}
    else:
        from tagwerk.runtime.bench import path

        doers = {"Flow": path.flow, "Asks": path.ask, "Kills": path.kills}
    return doers[name]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
