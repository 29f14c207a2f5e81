from __future__ import annotations

import os
import shutil
import sys
from configparser import RawConfigParser
from pathlib import Path

import pytest

from tagwerk.protocols.errors import ConfigError, Unavailable
from tagwerk.runtime import supervisord_conf
from tagwerk.runtime.cli import supervision
from tagwerk.runtime.home import Home
from tagwerk.runtime.release import release_code
from tagwerk.runtime.supervisord_conf import EXAMPLE, conf_for, default_conf, write_supervisord_conf


@pytest.fixture
def short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "run"
    directory.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(directory))
    return directory


@pytest.fixture
def home(tmp_path: Path, short: Path) -> Home:
    return Home(tmp_path / "a plant").create()


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_all_directories_are_private(home: Home, short: Path) -> None:
    assert [mode(path) for path in (home.data, home.log, home.run)] == [0o700] * 3
    assert home.run.resolve().parent == short
    assert home.run.resolve().name.startswith(f"tw-{os.getuid()}-")
    assert mode(home.actor_data("cvt/0")) == 0o700
    assert home.actor_data("cvt/0") == home.data / "cvt-0"


def test_paths_are_those_of_the_short_directory(home: Home) -> None:
    run = home.run.resolve()
    assert home.socket("cvt/0", "box") == f"ipc://{run}/cvt-0.box"
    assert home.file("node/main", "ctl") == run / "node-main.ctl"


def test_create_again_changes_nothing(home: Home) -> None:
    run = home.run.resolve()
    assert Home(home.root).create().run.resolve() == run


def test_every_home_has_its_own_run(home: Home, tmp_path: Path) -> None:
    assert Home(tmp_path / "other").create().run.resolve() != home.run.resolve()


def test_a_copied_home_does_not_lead_to_the_original(home: Home, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(home.root, copy, symlinks=True)
    with pytest.raises(Unavailable, match="no plant is up"):
        Home(copy).socket("cvt/0", "box")
    assert Home(copy).create().run.resolve() != home.run.resolve()


def test_after_a_boot_the_link_leads_nowhere_and_is_mended(home: Home) -> None:
    home.run.resolve().rmdir()
    with pytest.raises(Unavailable):
        Home(home.root).file("cvt/0", "lock")
    home.create()
    assert home.run.is_dir()


def test_a_home_that_was_never_started_is_not_up(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="no plant is up"):
        Home(tmp_path).file("node/main", "page")


def test_a_run_directory_open_to_others_is_refused(home: Home) -> None:
    home.run.resolve().chmod(0o755)
    with pytest.raises(ConfigError, match="open to others"):
        Home(home.root).socket("cvt/0", "box")
    with pytest.raises(ConfigError, match="open to others"):
        home.create()


def test_a_run_directory_made_by_another_is_refused(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.getuid()
    name = home.run.resolve().name.replace(f"-{real}-", f"-{real + 1}-")
    (home.run.resolve().parent / name).mkdir(mode=0o700)
    monkeypatch.setattr(os, "getuid", lambda: real + 1)
    with pytest.raises(ConfigError, match="another user"):
        home.create()


def test_a_link_in_place_of_the_run_directory_is_refused(home: Home, tmp_path: Path) -> None:
    run = home.run.resolve()
    run.rmdir()
    home.run.unlink()
    (tmp_path / "trap").mkdir(mode=0o700)
    run.symlink_to(tmp_path / "trap")
    with pytest.raises(ConfigError, match="not a directory"):
        home.create()


def test_a_socket_path_that_does_not_fit_is_refused(home: Home) -> None:
    with pytest.raises(ConfigError, match="too long"):
        home.socket("machine/" + "x" * 107, "box")


def test_remove_run_leaves_what_is_still_used(home: Home) -> None:
    run = home.run.resolve()
    (run / "cvt-0.lock").touch()
    assert not home.remove_run()
    assert home.run.is_dir()
    (run / "cvt-0.lock").unlink()
    assert home.remove_run()
    assert not run.exists()
    assert not home.run.is_symlink()
    assert home.remove_run()


def test_the_default_home_is_that_of_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TAGWERK_HOME", str(tmp_path))
    assert Home.default().root == tmp_path.resolve()
    monkeypatch.delenv("TAGWERK_HOME")
    assert Home.default().root == Path("var").resolve()


def test_released_code_is_what_stood_there(home: Home, tmp_path: Path) -> None:
    plant = tmp_path / "plant"
    (plant / "steps" / "deep").mkdir(parents=True)
    (plant / "var").mkdir()
    (plant / "docs").mkdir()
    for name in ("mash.py", "steps/__init__.py", "steps/deep/table.csv", "var/no.py", "docs/no.py", ".hidden.py"):
        (plant / name).write_text(f"# {name}\n")
    (plant / "plant.toml").touch()
    first = release_code(plant / "plant.toml", home)
    assert sorted(str(path.relative_to(first)) for path in first.rglob("*") if path.is_file()) == [
        "mash.py",
        "steps/__init__.py",
        "steps/deep/table.csv",
    ]
    assert release_code(plant / "plant.toml", home) == first
    (plant / "mash.py").write_text("# other\n")
    second = release_code(plant / "plant.toml", home)
    assert second != first
    assert (first / "mash.py").read_text() == "# mash.py\n"
    assert (second / "mash.py").read_text() == "# other\n"


def test_a_release_that_a_power_cut_emptied_is_made_again(home: Home, tmp_path: Path) -> None:
    (tmp_path / "mash.py").write_text("x = 1\n")
    release = release_code(tmp_path / "plant.toml", home)
    (release / "mash.py").write_text("")
    assert release_code(tmp_path / "plant.toml", home) == release
    assert (release / "mash.py").read_text() == "x = 1\n"


def test_old_releases_are_removed(home: Home, tmp_path: Path) -> None:
    releases: list[Path] = []
    for number in range(12):
        (tmp_path / "mash.py").write_text(f"x = {number}\n")
        releases.append(release_code(tmp_path / "plant.toml", home))
    assert releases[-1].is_dir()
    assert len(list((home.data / "code").iterdir())) == 8


def test_too_much_code_is_refused(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tagwerk.runtime.release.FILE_LIMIT", 1)
    (tmp_path / "a.py").touch()
    (tmp_path / "b.py").touch()
    with pytest.raises(ConfigError, match="too much code"):
        release_code(tmp_path / "plant.toml", home)


def test_the_shipped_configuration_is_the_rendered_one() -> None:
    shipped = Path(__file__).parents[2] / "supervisord.conf"
    assert shipped.read_text(encoding="utf-8") == default_conf()


def test_a_configuration_for_another_home_survives_odd_names(home: Home, tmp_path: Path) -> None:
    path = write_supervisord_conf(home, tmp_path / "100% plant" / "plant.toml")
    assert path.parent == home.run.resolve()
    parser = RawConfigParser()
    parser.read(path)
    assert f"'{home.root}'" in parser["program:main"]["command"]
    assert "100%% plant" in parser["program:main"]["command"]
    assert parser["ctlplugin:tagwerk"]["home"] == str(home.root)


@pytest.fixture
def made_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, short: Path) -> Path:
    folder = tmp_path.resolve() / "checkout"
    (folder / EXAMPLE).parent.mkdir(parents=True)
    (folder / EXAMPLE).touch()
    (folder / "supervisord.conf").write_text(default_conf(), encoding="utf-8")
    monkeypatch.setattr(supervisord_conf, "checkout", lambda: folder)
    monkeypatch.setattr(sys, "prefix", str(folder / ".venv"))
    return folder


def test_the_shipped_configuration_runs_what_it_is_made_for(made_checkout: Path) -> None:
    home = Home(made_checkout / "var")
    assert conf_for(home, made_checkout / EXAMPLE) == made_checkout / "supervisord.conf"
    assert home.run.is_dir()


def test_anything_else_gets_a_configuration_of_its_own(
    made_checkout: Path, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    default = Home(made_checkout / "var")
    assert conf_for(home, made_checkout / EXAMPLE).parent == home.run.resolve()
    assert conf_for(default, tmp_path / "plant.toml").parent == default.run.resolve()
    monkeypatch.setattr(sys, "prefix", "/usr")  # the shipped one runs the Python of .venv
    assert conf_for(default, made_checkout / EXAMPLE).parent == default.run.resolve()


def test_a_supervisord_that_was_killed_leaves_nothing_in_the_checkout(made_checkout: Path) -> None:
    for name in ("supervisord.pid", "supervisord.sock"):
        (made_checkout / name).write_text("999999999")
    home = Home(made_checkout / "var").create()
    assert supervision.find(home) is None
    supervision.clean(home)
    assert not (made_checkout / "supervisord.pid").exists()
    assert not (made_checkout / "supervisord.sock").exists()
    assert (made_checkout / "supervisord.conf").exists()
