"""The documents are true: the commands in their `sh` blocks run, and their links lead somewhere."""

from __future__ import annotations

import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest
from brewery import EXAMPLE, Brewery, wait_for

from tagwerk.runtime.cli.app import run as cli

ROOT = EXAMPLE.parents[1]
GUIDES = ("README.md", "examples/brewhouse/README.md", "docs/tutorial.md")
EXAMPLE_URL = "opc.tcp://127.0.0.1:4840/"
EXITS = re.compile(r"#.*exit code (\d+)")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)#]+)(?:#[^)]*)?\)")

# Beginning of a command: why it is not run here.
NOT_RUN = {
    "bin/up": "the brewery of this test runs already; bin/up would install into the environment",
    "bin/test": "it is who runs this",
    "bin/tagwerk down": "the brewery ends with the test",
    "bin/tagwerk watch": "goes on until Ctrl-C",
    "bin/tagwerk --home first/var watch": "goes on until Ctrl-C",
    ".venv/bin/python examples/brewhouse/plc.py": "goes on until Ctrl-C; the brewery's PLC stands in for it",
    ".venv/bin/python examples/watch_async.py": "takes ten seconds",
}
# These are said to be refused until something has come about: they are tried again.
AFTER_A_WHILE = (" ack ", "machine send mash confirm", "machine send mash start", " write ")
PATIENCE_S = 20.0


@dataclass(frozen=True)
class Command:
    line: str
    exit_code: int

    @property
    def waits(self) -> bool:
        return self.exit_code == 0 and any(part in self.line for part in AFTER_A_WHILE)


def blocks(guide: str) -> Iterator[tuple[str, str]]:
    for match in BLOCK.finditer((ROOT / guide).read_text()):
        yield match[1], match[2]


def commands(body: str) -> Iterator[Command]:
    for line in body.splitlines():
        if line.strip() and not any(line.startswith(beginning) for beginning in NOT_RUN):
            exits = EXITS.search(line)
            yield Command(line, int(exits[1]) if exits else 0)


@pytest.fixture(scope="module")
def brewery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Brewery]:
    running = Brewery.start(tmp_path_factory.mktemp("docs"))
    with running.attach() as plant:
        wait_for("the link's values", lambda: plant.read("brewhouse.estop").good)
    yield running
    running.stop()


@pytest.fixture(scope="module")
def checkout(brewery: Brewery, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a reader sees in his checkout: bin, examples, .venv, and the running brewery's home as var."""
    folder = tmp_path_factory.mktemp("checkout")
    for place in ("bin", ".venv/bin"):
        (folder / place).mkdir(parents=True)
    script(folder / "bin/tagwerk", f'exec "{sys.executable}" -m tagwerk.runtime.cli "$@"')
    script(folder / ".venv/bin/python", f'exec "{sys.executable}" "$@"')
    (folder / "examples").symlink_to(ROOT / "examples")
    (folder / "var").symlink_to(brewery.home)
    return folder


def script(path: Path, line: str) -> None:
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o700)


def run(command: Command, brewery: Brewery, checkout: Path) -> None:
    line = command.line.replace(EXAMPLE_URL, f"opc.tcp://127.0.0.1:{brewery.port}/")
    deadline = time.monotonic() + PATIENCE_S
    while True:
        code, complaint = in_process(line) if is_plain(line) else by_shell(line, brewery, checkout)
        if code == command.exit_code:
            break
        if not command.waits or time.monotonic() > deadline:
            pytest.fail(f"{command.line}\nexit code {code}, not {command.exit_code}\n{complaint}")
        time.sleep(0.05)
    assert "Traceback" not in complaint, complaint


def is_plain(line: str) -> bool:
    """Whether the command line alone can do it. An interpreter for each command would cost a second."""
    starts_processes = " up " in line or line.endswith(" down")
    return line.startswith("bin/tagwerk ") and ">" not in line and not starts_processes


def in_process(line: str) -> tuple[int, str]:
    complaint = io.StringIO()
    with redirect_stdout(io.StringIO()), redirect_stderr(complaint):
        code = cli(shlex.split(line, comments=True)[1:])
    return code, complaint.getvalue()


def by_shell(line: str, brewery: Brewery, checkout: Path) -> tuple[int, str]:
    environment = {**os.environ, "TAGWERK_HOME": str(brewery.home)}
    done = subprocess.run(
        ["bash", "-c", line], cwd=checkout, env=environment, capture_output=True, text=True, timeout=60
    )
    return done.returncode, done.stderr


def keep_file(body: str, brewery: Brewery, checkout: Path) -> None:
    """Write a block that names its file in its first line."""
    named = re.match(r"# (first/\S+)\n", body)
    if named:
        (checkout / named[1]).write_text(body.replace(EXAMPLE_URL, f"opc.tcp://127.0.0.1:{brewery.port}/"))


@pytest.mark.slow
@pytest.mark.parametrize("guide", GUIDES)
def test_the_commands_of_a_guide_do_what_it_says(
    guide: str, brewery: Brewery, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(checkout)
    monkeypatch.setenv("TAGWERK_HOME", str(brewery.home))
    count = 0
    try:
        for language, body in blocks(guide):
            if language == "toml":
                keep_file(body, brewery, checkout)
            for command in commands(body) if language == "sh" else ():
                run(command, brewery, checkout)
                count += 1
    finally:
        if (checkout / "first/var/run").exists():
            run(Command("bin/tagwerk --home first/var down", 0), brewery, checkout)
        shutil.rmtree(checkout / "first", ignore_errors=True)
    assert count > 5


def test_the_script_in_the_readme_is_the_one_in_the_examples() -> None:
    (body,) = (body for language, body in blocks("README.md") if language == "python")
    assert (ROOT / "examples/lab_script.py").read_text().endswith(body)


def test_all_links_lead_somewhere() -> None:
    pages = [ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md"), *EXAMPLE.glob("*.md")]
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in pages
        for target in LINK.findall(page.read_text())
        if "://" not in target and not (page.parent / target).exists()
    ]
    assert not broken
