"""A plant without devices, in real processes: the node, the shards and what belongs to every plant."""

from __future__ import annotations

from pathlib import Path

from brewery import Brewery


def start_plant(folder: Path, tags: list[str]) -> Brewery:
    """Bring up a plant with these tags: lines of its tag file behind the header."""
    (folder / "tags.csv").write_text("\n".join(["name,type,writable", *tags, ""]))
    path = folder / "plant.toml"
    path.write_text('[plant]\nname = "small"\ntag_files = ["tags.csv"]\n\n[node.main]\nrestarts = 100\n')
    return Brewery.bring_up(folder, path)
