"""Releasing users' code: a copy is what runs, so that a restart does not run what is just being edited."""

from __future__ import annotations

import os
import shutil
from hashlib import blake2b
from pathlib import Path
from typing import Final

from tagwerk.protocols.errors import ConfigError
from tagwerk.runtime.home import Home

FILE_LIMIT: Final = 1000
SIZE_LIMIT_BYTES: Final = 50_000_000
KEPT_RELEASES: Final = 8
_SKIPPED: Final = frozenset({"var", "__pycache__"})


def release_code(plant: Path, home: Home) -> Path:
    """Copy the users' modules beside a plant file to a directory that is named by what is in it.

    Modules (`*.py`) in the plant file's folder, and packages (folders with an `__init__.py`) with all that is in them,
    are copied; hidden files, `var` and caches are not.

    Args:
        plant: The plant file.
        home: The plant's home.

    Returns:
        The directory to import from.

    Raises:
        ConfigError: There is more than a user's code can be.
    """
    folder = plant.absolute().parent
    files = _modules(folder)
    digest = _digest(folder, files)
    releases = home.data / "code"
    releases.mkdir(mode=0o700, exist_ok=True)
    release = releases / digest
    # A power cut may have left a directory of the right name with empty files.
    if not release.is_dir() or _digest(release, _modules(release)) != digest:
        _copy(folder, files, release)
    os.utime(release)
    _prune(releases, release)
    return release


def _modules(folder: Path) -> list[Path]:
    found: list[Path] = []
    size_bytes = 0
    pending = [folder]
    while pending:
        for entry in sorted(os.scandir(pending.pop()), key=lambda entry: entry.name):
            path = Path(entry.path)
            if entry.name.startswith(".") or entry.name in _SKIPPED:
                continue
            inside = path.parent != folder
            if entry.is_dir(follow_symlinks=False):
                if inside or (path / "__init__.py").is_file():
                    pending.append(path)
            elif entry.is_file() and (inside or path.suffix == ".py"):
                found.append(path)
                size_bytes += entry.stat().st_size
            if len(found) > FILE_LIMIT or size_bytes > SIZE_LIMIT_BYTES:
                raise ConfigError(
                    "there is too much code beside the plant file",
                    file=str(folder),
                    expected=f"at most {FILE_LIMIT} files and {SIZE_LIMIT_BYTES // 1_000_000} MB",
                )
    return sorted(found)


def _digest(folder: Path, files: list[Path]) -> str:
    digest = blake2b(digest_size=8)
    for path in files:
        content = path.read_bytes()
        digest.update(f"{path.relative_to(folder)}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def _copy(folder: Path, files: list[Path], release: Path) -> None:
    new = release.with_name(f".{release.name}.{os.getpid()}")
    for path in files:
        target = new / path.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    new.mkdir(exist_ok=True)  # a plant without code has a release, too
    if release.exists():
        shutil.rmtree(release)
    new.rename(release)


def _prune(releases: Path, current: Path) -> None:
    old = sorted((path for path in releases.iterdir() if path != current), key=lambda path: path.stat().st_mtime_ns)
    for path in old[: max(0, len(old) + 1 - KEPT_RELEASES)]:
        shutil.rmtree(path)
