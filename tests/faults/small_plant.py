"""A plant without devices, in real processes: the node, the shards and what belongs to every plant."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from brewery import Brewery, _page, wait_for


def start_plant(folder: Path, tags: list[str]) -> Brewery:
    """Bring up a plant with these tags: lines of its tag file behind the header."""
    (folder / "tags.csv").write_text("\n".join(["name,type,writable", *tags, ""]))
    path = folder / "plant.toml"
    path.write_text('[plant]\nname = "small"\ntag_files = ["tags.csv"]\n\n[node.main]\nrestarts = 100\n')
    home = folder / "home"
    node = subprocess.Popen([sys.executable, "-m", "tagwerk.runtime.node", "--home", str(home), "--plant", str(path)])
    plant = Brewery(folder, home, 0, node)
    page = wait_for("the gauge page", lambda: _page(home), 20)
    assert page is not None
    plant.page = page
    wait_for("all actors RUNNING", plant.all_running, 60)
    return plant
