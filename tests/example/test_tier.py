"""With a tier a worker that starts finds what another has computed, and edits show all the same."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask

from ..tier.servers import server as own_server
from .conftest import close, make_app
from .person import Answer, Person, through
from .serving import WORKERS, Server, serve


@pytest.fixture
def apps(filled: Path, tmp_path: Path) -> Iterator[tuple[Flask, Flask]]:
    """Two wikis on one database, with a file for a tier."""
    shutil.copy(filled / "wiki.sqlite", tmp_path / "wiki.sqlite")
    tier = f"file://{tmp_path}/values.dbm"
    one, two = (make_app(tmp_path, WIKI_TIER=tier) for _ in range(2))
    yield one, two
    close(one)
    close(two)


@pytest.fixture
def server(filled: Path, tmp_path: Path) -> Iterator[Server]:
    """Four workers, with a Redis of their own for a tier."""
    shutil.copy(filled / "wiki.sqlite", tmp_path / "wiki.sqlite")
    with own_server("redis", tmp_path) as redis:
        # The machine may be busy, and a late answer is a miss.
        waits = "socket_timeout=20&socket_connect_timeout=20"
        with serve(tmp_path, tier=f"redis://127.0.0.1:{redis.port}/0?{waits}") as running:
            yield running


def figures(answer: Answer) -> tuple[int, int, int]:
    """What the foot says: hits, from the tier, misses."""
    found = re.search(r"(\d+) hits? (\d+) from the tier (\d+) miss(?:es)?", answer.words)
    assert found is not None, answer.words
    return int(found[1]), int(found[2]), int(found[3])


def test_another_worker_finds_what_one_has_computed(apps: tuple[Flask, Flask]) -> None:
    one, two = (through(app.test_client(use_cookies=False)) for app in apps)
    hits, tier, misses = figures(one.get("/wiki/Calls"))
    assert tier == 0
    assert figures(two.get("/wiki/Calls")) == (hits, misses, 0)
    assert figures(two.get("/wiki/Calls")) == (hits + misses, 0, 0)
    one.write("/edit/Calls", "Something else. See [[Lambdas]].")
    assert "Something else." in two.get("/wiki/Calls").words
    assert "Something else." in one.get("/wiki/Calls").words
    assert "/wiki/Calls" in two.get("/wiki/Lambdas").main


@pytest.mark.xdist_group("example-sqlite")
def test_a_worker_starts_with_what_another_has_computed(server: Server) -> None:
    person = server.person()
    first = person.get("/wiki/Calls")
    hits, tier, misses = figures(first)
    assert tier == 0
    heard = server.everyone("/wiki/Calls")  # of the others it is the very first request
    told = {worker: figures(answer) for worker, answer in heard.items()}
    assert told.pop(first.worker) == (hits + misses, 0, 0)
    assert list(told.values()) == [(hits, misses, 0)] * (WORKERS - 1)
    for number in range(3):
        person.write("/edit/Calls", f"Edit number {number}. See [[Lambdas]].")
        for answer in server.everyone("/wiki/Calls").values():
            assert f"Edit number {number}." in answer.words, answer.worker
    for answer in server.everyone("/wiki/Lambdas").values():
        assert "/wiki/Calls" in answer.main, answer.worker


def test_without_a_tier_the_foot_does_not_speak_of_it(person: Person) -> None:
    assert "tier" not in person.get("/wiki/Calls").words


def test_a_worker_starts_with_what_was_in_memory_before(filled: Path, tmp_path: Path) -> None:
    shutil.copy(filled / "wiki.sqlite", tmp_path / "wiki.sqlite")

    def first_answer() -> str:
        app = make_app(tmp_path, WIKI_SNAPSHOT=str(tmp_path / "values"))
        try:
            return through(app.test_client(use_cookies=False)).get("/wiki/Calls").words
        finally:
            close(app)

    assert " 0 misses " not in first_answer()
    assert " 0 misses " in first_answer()
