"""Where history is kept: what a plant file may say of it, and that no password is shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from tagwerk.protocols.errors import ConfigError
from tagwerk.runtime import plantfile_history, plantfile_rules
from tagwerk.runtime.plantfile import parse

GOOD = (
    "postgresql:///history",
    "postgres://plant@db.example:5432/history",
    "postgresql://plant@a:5432,b:5433/history?target_session_attrs=read-write",
    "postgresql:///?service=history",
    "postgresql://plant@/history?host=/run/postgresql&passfile=/etc/tagwerk/pgpass",
    "postgresql://plant@[2001:db8::1]:5432/history",
)
SECRET = (
    "postgresql://plant:s3cret@db/history",
    "postgresql://plant@db/history?password=s3cret",
    "postgresql://plant:s3cret/?s3cret@db/history",
    "postgresql://plant@db/history?pass%77ord=s3cret",
    "postgresql://plant:s3cret@a:1,b:2/history",
    "postgresql://a:1,b:2/history?sslmode=require&password=s3cret",
    "postgresql://plant@db/history?sslpassword=s3cret",
    "postgresql://db/history?password=s3cret@s3cret",
)
MISTAKEN = (
    "host=db dbname=history password=s3cret",
    "host=db PASSWORD = 's3cret word s3cret'",
    "mysql://db/history?password=s3cret@s3cret",
    "postgresql:/db/history?password=s3cret",
)


def told(tmp_path: Path, history: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(f"[history]\n{history}\n", tmp_path / "p.toml")
    return str(caught.value)


@pytest.mark.parametrize("store", GOOD)
def test_an_address_is_taken_as_libpq_reads_it(tmp_path: Path, store: str) -> None:
    plant = parse(f'[history]\nstore = "{store}"\nlayout = "rows"\n', tmp_path / "p.toml")
    assert (plant.history.store, plant.history.layout) == (store, "rows")


@pytest.mark.parametrize("store", SECRET)
def test_a_password_is_refused_and_not_repeated(tmp_path: Path, store: str) -> None:
    text = told(tmp_path, f'store = "{store}"')
    assert "history.store" in text
    assert "passfile" in text
    assert "s3cret" not in text


@pytest.mark.parametrize("store", MISTAKEN)
def test_nor_is_one_repeated_in_what_is_no_address(tmp_path: Path, store: str) -> None:
    assert "s3cret" not in told(tmp_path, f'store = "{store}"')


@pytest.mark.parametrize("store", ["mysql://db/history", "db.example", "sqlite:///x", "postgresql", "postgresql:/x"])
def test_what_is_no_address_is_refused(tmp_path: Path, store: str) -> None:
    assert "expected postgresql://USER@HOST:PORT/DATABASE" in told(tmp_path, f'store = "{store}"')


def test_files_have_no_layout(tmp_path: Path) -> None:
    assert "only a database has a choice" in told(tmp_path, 'layout = "rows"')
    assert "one of: chunks, rows" in told(tmp_path, 'store = "postgresql:///x"\nlayout = "columns"')


def test_without_the_library_it_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (plantfile_rules, plantfile_history):
        monkeypatch.setattr(module, "find_spec", lambda _name: None)
    assert "pip install 'tagwerk[postgresql]'" in told(tmp_path, 'store = "postgresql:///x"')
    with pytest.raises(ConfigError, match="psycopg is not installed"):
        plantfile_history.require_psycopg("plant.toml")
