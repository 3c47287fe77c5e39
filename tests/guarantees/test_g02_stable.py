"""G2: within one request a key has one value, unless the request itself invalidates it."""

from __future__ import annotations

from contextvars import copy_context
from functools import partial
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from coherent_cache import CacheManager, cached

from ..hard_cases.support import Page
from ..workers import PageText, Worker, page, put
from .helpers import begin_with, elsewhere


def test_g02_others_commit_meanwhile(worker: Worker, other: Worker) -> None:
    worker.write("Front", "one")
    with other.cache_manager.request():
        assert PageText(other, "Front").text == "one"
        assert other.wiki.names == {"Front"}
        worker.write("Front", "two")
        worker.write("Back", "two")
        assert elsewhere(lambda: other.read("Front")) == "two"
        assert PageText(other, "Front").text == "one"
        assert other.wiki.names == {"Front"}
    assert other.read("Front") == "two"


def test_g02_memory_is_short(worker: Worker, other: Worker) -> None:
    """What was dropped from the process's memory stays in the request's."""
    worker.write("Front", "one")
    with other.cache_manager.request():
        assert PageText(other, "Front").text == "one"
        other.cache_manager.evict()
        worker.write("Front", "two")
        assert PageText(other, "Front").text == "one"


def test_g02_what_was_not_invalidated_stays_after_its_own_commit(
    worker: Worker, other: Worker
) -> None:
    with other.engine.begin() as connection:
        for name in ("Front", "Back"):
            put(connection, name, "one")
    with worker.cache_manager.request():
        with worker.cache_manager.begin() as connection:
            put(connection, "Back", "two")
            del PageText(worker, "Back").text
            put(connection, "Front", "mine")
            assert PageText(worker, "Front").text == "mine"  # computed in the transaction
        other.write("Front", "theirs")
        assert PageText(worker, "Front").text == "mine"
        assert PageText(worker, "Back").text == "two"
    assert worker.read("Front") == "theirs"


def test_g02_its_own_invalidation_shows(worker: Worker, other: Worker) -> None:
    worker.write("Front", "one")
    with other.cache_manager.request():
        assert PageText(other, "Front").text == "one"
        worker.write("Front", "two")
        del PageText(other, "Front").text
        assert PageText(other, "Front").text == "two"


def test_g02_reset_metadata_lets_the_view_begin_anew(worker: Worker, other: Worker) -> None:
    worker.write("Front", "one")
    with other.cache_manager.request():
        assert PageText(other, "Front").text == "one"
        worker.write("Front", "two")
        other.cache_manager.reset_metadata()
        assert PageText(other, "Front").text == "two"


class _Locking:
    """Its retriever reads under a lock, on a connection of its own that it just closes."""

    def __init__(self, env: Worker) -> None:
        self.env = env

    @cached
    def text(self) -> str | None:
        with self.env.engine.connect() as connection:
            return connection.scalar(select(page.c.text).with_for_update())


def test_g02_a_retriever_that_locks(worker: Worker, other: Worker) -> None:
    """What is read under a lock is not for others, but it is this request's one value."""
    worker.write("Front", "one")
    with other.cache_manager.request():
        assert _Locking(other).text == "one"
        worker.write("Front", "two")
        assert _Locking(other).text == "one"
    del _Locking(worker).text
    assert _Locking(other).text == "two"


@pytest.mark.on("sqlite-wal", "sqlite-journal")
@pytest.mark.parametrize("recipe", ["before", "after"])
def test_g02_transactions_that_begin_immediate(worker: Worker, recipe: str) -> None:
    """SQLAlchemy's recipe for SQLite, installed before the manager was made, or after: who takes
    a lock has not written, so what he reads is for everybody."""
    engine = worker.database.engine()
    if recipe == "before":
        begin_with(engine, "BEGIN IMMEDIATE")
    locking = Worker(worker.database, engine=engine)
    if recipe == "after":
        begin_with(engine, "BEGIN IMMEDIATE")
    worker.write("Front", "one")
    for _ in range(3):
        assert locking.read("Front") == "one"
        assert locking.wiki.names == {"Front"}
    assert locking.wiki.calls == 1
    with locking.cache_manager.request(), locking.cache_manager.begin():
        assert PageText(locking, "Front").text == "one"
    with locking.cache_manager.request():
        assert PageText(locking, "Front").text == "one"
        worker.write("Front", "two")
        assert PageText(locking, "Front").text == "one"
    assert locking.read("Front") == "two"
    assert locking.wiki.names == {"Front"}
    assert locking.wiki.calls == 2  # `write` has invalidated the names as well


class _FromReplica:
    """Reads a copy of the database that may lag behind."""

    def __init__(self, manager: CacheManager, replica: Any) -> None:
        self.cache_manager = manager
        self.replica = replica
        self.calls = 0

    @cached
    def text(self) -> str | None:
        self.calls += 1
        with self.replica.connect() as connection:
            return connection.scalar(select(page.c.text))


def test_g02_a_value_from_a_replica_is_the_requests(worker: Worker) -> None:
    worker.write("Front", "one")
    replica = worker.database.engine()
    manager = CacheManager(worker.database.engine(), replicas=[replica])
    found = _FromReplica(manager, replica)
    with manager.request():
        assert found.text == "one"
        worker.write("Front", "two")
        assert found.text == "one"
    assert found.calls == 1
    with manager.request():
        assert found.text == "two"  # and nobody else's
    assert found.calls == 2


@pytest.mark.on("postgresql", "mariadb", "sqlite-wal")
@pytest.mark.parametrize("job", ["lets a del wait", "writes rows", "changes an object"])
def test_g02_a_job_beside_it_uses_a_session(worker: Worker, other: Worker, job: str) -> None:
    """A thread or task outside any request, which began with a copy of the same context: its
    session is not the request's."""
    if worker.database.is_sqlite and job == "writes rows":
        pytest.skip("nobody else could write")
    other.write("Front", "one")
    other.write("Back", "one")
    assert worker.read("Front") == "one"  # from here on the context has a scope

    def begin() -> Session:
        session = Session(worker.engine)
        if job == "lets a del wait":
            session.begin()
            del PageText(worker, "Front").text
            return session
        row = session.info["row"] = session.get_one(Page, "Back")
        row.text = "the job's"
        if job == "writes rows":
            session.flush()
        return session

    session = elsewhere(partial(copy_context().run, begin))
    worker.cache_manager.evict()
    try:
        with worker.cache_manager.request():
            assert PageText(worker, "Front").text == "one"
            other.write("Front", "two")
            assert PageText(worker, "Front").text == "one"
        assert worker.read("Front") == "two"
    finally:
        session.rollback()
        session.close()
