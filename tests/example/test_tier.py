"""With a tier a worker that starts finds what another has computed, and edits show all the same."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask

from .conftest import close, make_app
from .person import Person, through


@pytest.fixture
def apps(filled: Path, tmp_path: Path) -> Iterator[tuple[Flask, Flask]]:
    """Two wikis on one database, with a file for a tier."""
    shutil.copy(filled / "wiki.sqlite", tmp_path / "wiki.sqlite")
    tier = f"file://{tmp_path}/values.dbm"
    one, two = (make_app(tmp_path, WIKI_TIER=tier) for _ in range(2))
    yield one, two
    close(one)
    close(two)


def figures(person: Person, path: str) -> tuple[int, int, int]:
    """What the foot says: hits, from the tier, misses."""
    found = re.search(r"(\d+) hits? (\d+) from the tier (\d+) miss(?:es)?", person.get(path).words)
    assert found is not None
    return int(found[1]), int(found[2]), int(found[3])


def test_another_worker_finds_what_one_has_computed(apps: tuple[Flask, Flask]) -> None:
    one, two = (through(app.test_client(use_cookies=False)) for app in apps)
    hits, tier, misses = figures(one, "/wiki/Calls")
    assert (hits, tier) == (0, 0)
    assert figures(two, "/wiki/Calls") == (0, misses, 0)
    assert figures(two, "/wiki/Calls") == (misses, 0, 0)
    one.write("/edit/Calls", "Something else. See [[Lambdas]].")
    assert "Something else." in two.get("/wiki/Calls").words
    assert "Something else." in one.get("/wiki/Calls").words
    assert "/wiki/Calls" in two.get("/wiki/Lambdas").main


def test_without_a_tier_the_foot_does_not_speak_of_it(person: Person) -> None:
    assert "tier" not in person.get("/wiki/Calls").words
