"""Stores of others, by the scheme of their locations."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import waypost
from tests.conftest import make_config
from waypost import schemes
from waypost.config import find_location, is_directory
from waypost.errors import InvalidConfiguration, UnsupportedPlatform
from waypost.store import open_store

_MODULE = """
from waypost.store.memory import MemoryStore

STORES = {}
NUMBER = 7


def open_store(location, config, *, create, read_only):
    store = STORES.setdefault(location, MemoryStore(config))
    store.asked = create, read_only
    store.location = location
    return store
"""
Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Installs a package as a wheel does: a module, and a file that names its entry points."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def installed(name: str, *entries: str) -> None:
        (tmp_path / f"{name}_stores.py").write_text(_MODULE)
        told = tmp_path / f"{name}-1.0.dist-info"
        told.mkdir()
        (told / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (told / "entry_points.txt").write_text("\n".join(["[waypost.stores]", *entries]))
        monkeypatch.delitem(sys.modules, f"{name}_stores", raising=False)

    return installed


@pytest.mark.parametrize("location", ["mine:shelf", "mine://host/shelf", "Mine:x"])
def test_a_location_whose_scheme_is_registered_opens_that_store(install: Install, location: str) -> None:
    """What the package names opens it, with the location as it stands and all that was asked for."""
    install("mine", "mine = mine_stores:open_store")
    assert find_location(location, {}) == location and not is_directory(location)
    with waypost.open(location) as wp:
        wp.create_workflow("w", "W", steps=["a"]).unwrap()
        assert wp.location == location
    store = open_store(location, make_config(), create=False, read_only=True)
    assert vars(store)["asked"] == (False, True)


def test_a_scheme_that_nobody_registered_is_refused_and_nothing_of_it_is_shown(install: Install) -> None:
    """An unknown scheme is an error that names it, and no directory of that name is made."""
    install("mine", "mine = mine_stores:open_store")
    with pytest.raises(InvalidConfiguration, match="no store of the kind other://") as caught:
        waypost.open("other://me:canary@host/x")
    assert "canary" not in str(caught.value) + repr(caught.value.details)


def test_a_directory_may_still_have_such_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name with a colon is a path where nobody registered what is before it."""
    monkeypatch.chdir(tmp_path)
    waypost.open("mine:shelf").close()
    assert (tmp_path / "mine:shelf" / "FORMAT").exists()


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ("mine = gone_stores:open_store", "cannot be loaded: gone_stores:open_store .mine.: No module named"),
        ("mine = mine_stores:none", "cannot be loaded: mine_stores:none .mine."),
        ("mine = mine_stores:NUMBER", "cannot be called: mine_stores:NUMBER .mine."),
    ],
)
def test_what_cannot_be_loaded_is_told_by_name(install: Install, entry: str, told: str) -> None:
    """The error names the package that registered it, and what is wrong with it."""
    install("mine", entry)
    with pytest.raises(UnsupportedPlatform, match=told):
        waypost.open("mine:shelf")


def test_two_packages_for_one_scheme_are_an_error(install: Install) -> None:
    """Nobody guesses which one is meant."""
    install("mine", "mine = mine_stores:open_store")
    install("theirs", "mine = theirs_stores:open_store")
    with pytest.raises(
        InvalidConfiguration, match=r"several packages.*(mine_stores.*theirs_stores|theirs_stores.*mine_stores)"
    ):
        waypost.open("mine:shelf")


def test_the_schemes_of_the_house_are_its_own(install: Install) -> None:
    """No package can put itself in the place of a store of Waypost."""
    install("mine", "memory = mine_stores:open_store", "postgresql = mine_stores:open_store")
    assert schemes.opener("memory:") is None and schemes.opener("postgresql://host/x") is None
    with waypost.open("memory:") as wp:
        assert not hasattr(wp.definitions.store, "asked")
