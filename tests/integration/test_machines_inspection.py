"""Inspecting users' code that hangs, crashes, prints, leaves: the asker always gets an answer."""

import os
import time
from pathlib import Path

import pytest

from tagwerk.protocols.errors import ConfigErrors
from tagwerk.runtime import plantfile
from tagwerk.runtime.inspection import Inspection, check, inspect

pytestmark = pytest.mark.slow

TANK = """
from statemachine import State
from tagwerk import Machine, Output

class Tank(Machine):
    on = State(initial=True)
    total = Output(type="int")
"""


def run(folder: Path, code: str, timeout_s: float = 20.0) -> Inspection:
    (folder / "tank.py").write_text(code)
    path = folder / "plant.toml"
    path.write_text('[machine.tank]\nclass = "tank:Tank"\n')
    return inspect(path, folder, timeout_s)


def test_a_good_class(tmp_path: Path) -> None:
    found = run(tmp_path, TANK)
    assert found.errors == ()
    assert [(tag.name, tag.type, tag.source) for tag in found.tags] == [("tank.total", "int", "machine/tank")]


def test_printing_does_not_spoil_the_report(tmp_path: Path) -> None:
    assert run(tmp_path, TANK + "\nprint('{}')\nimport os; os.write(1, b'{}'); os.write(2, b'x' * 100000)").errors == ()


@pytest.mark.parametrize(
    ("line", "how"),
    [
        ("import time; time.sleep(1e6)", "did not end within 3 s"),
        ("import os; os._exit(0)", "ended without a report, exit code 0"),
        ("import os; os.kill(os.getpid(), 11)", "was ended by SIGSEGV"),
    ],
)
def test_code_that_does_not_come_back(tmp_path: Path, line: str, how: str) -> None:
    started = time.monotonic()
    (error,) = run(tmp_path, f"{line}\n{TANK}", timeout_s=3.0).errors
    assert how in error.message
    assert error.key == "machine.tank.class"
    assert time.monotonic() - started < 10.0


def test_threads_and_children_do_not_outlive_it(tmp_path: Path) -> None:
    child = "import subprocess, threading, time\n"
    child += f"p = subprocess.Popen(['sleep', '1000'])\nopen({str(tmp_path / 'pid')!r}, 'w').write(str(p.pid))\n"
    child += "threading.Thread(target=time.sleep, args=(1000,)).start()\n"
    assert run(tmp_path, child + TANK).errors == ()
    pid = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 5.0
    while _runs(pid):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_it_is_a_check_of_the_plant_file(tmp_path: Path) -> None:
    run(tmp_path, "x = (")
    with pytest.raises(ConfigErrors) as raised:
        plantfile.load(tmp_path / "plant.toml", checks=[check])
    (error,) = raised.value.errors
    assert (error.file, error.line, error.key) == (str(tmp_path / "tank.py"), 1, "machine.tank.class")


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return state not in "ZX"
