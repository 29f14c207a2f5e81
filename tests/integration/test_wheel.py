"""The wheel is the tree: each file of the package, byte for byte, and nothing else."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


def test_the_wheel_equals_the_tree(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = {name: archive.read(name) for name in archive.namelist() if name.startswith("tagwerk/")}
    tree = {
        f"tagwerk/{path.relative_to(ROOT)}": path.read_bytes()
        for folder in ("actors", "protocols", "runtime")
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    for name in ("__init__.py", "py.typed"):
        tree[f"tagwerk/{name}"] = (ROOT / "src" / "tagwerk" / name).read_bytes()
    assert set(packed) == set(tree)
    assert packed == tree
