"""Who may look at orders, as the plant file and its files say."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from tagwerk.actors.orders.observer_access import door_of
from tagwerk.protocols.errors import ConfigError
from tagwerk.runtime.plantfile_models import ObserverSection
from tagwerk.runtime.ua_certificate import own_certificate

if TYPE_CHECKING:
    from tagwerk.runtime.context import ActorContext

URL = "opc.tcp://a:4850"


def context(folder: Path) -> ActorContext:
    data = folder / "data"
    data.mkdir(exist_ok=True)
    home = SimpleNamespace(actor_data=lambda _: data)
    plant = SimpleNamespace(path=folder / "plant.toml")
    return cast("ActorContext", SimpleNamespace(home=home, plant=plant, name="observer/0"))


def test_a_server_makes_its_own_certificate_and_keeps_it(tmp_path: Path) -> None:
    (tmp_path / "secret").touch(0o600)
    (tmp_path / "secret").write_text("look\n")
    section = ObserverSection(url=URL, user="watcher", password_file="secret")
    first, second = (door_of(context(tmp_path), section) for _ in range(2))
    assert first == second
    assert (first.modes, first.user, first.password) == (("sign_and_encrypt",), "watcher", "look")
    assert (first.anonymous, first.writable) == (False, False)
    assert first.uri.encode() in first.certificate
    assert "look" not in repr(first)
    with pytest.raises(ConfigError, match="password_file"):
        door_of(context(tmp_path), ObserverSection(url=URL, user="watcher", password_file="none"))


def test_a_server_has_the_certificate_that_the_plant_file_names(tmp_path: Path) -> None:
    certificate, key = own_certificate(tmp_path, "urn:the:shop")
    section = ObserverSection(url=URL, security="none", anonymous=True, certificate="own.der", key="own.pem")
    door = door_of(context(tmp_path), section)
    assert (door.certificate, door.uri) == (certificate, "urn:the:shop")
    assert door.key.startswith(b"-----BEGIN PRIVATE KEY")
    assert door.modes == ("none", "sign", "sign_and_encrypt")
    for name, wrong in (("certificate", "own.pem"), ("key", "own.der"), ("key", "none")):
        with pytest.raises(ConfigError, match=f"order.observer.{name}"):
            door_of(context(tmp_path), section.model_copy(update={name: wrong}))
    assert key
