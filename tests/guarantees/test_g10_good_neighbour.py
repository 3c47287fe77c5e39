"""G10: no lock of ours is held while user code runs, and no failure is added."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError

from coherent_cache import cached, loading

from ..workers import PageText, Worker, page, put, wait_for_older_transactions
from .helpers import SECONDS, Gate, begin_with, elsewhere, in_thread


def test_g10_nothing_waits_for_a_retriever(worker: Worker, other: Worker) -> None:
    """While a retriever takes its time all else goes on: checks, loads, commits, invalidations."""
    gate = Gate()
    worker.wiki.before = gate
    slow = in_thread(lambda: worker.wiki.names)
    gate.wait()

    def everything() -> None:
        worker.write("Front", "mine")
        assert worker.read("Front") == "mine"
        other.write("Front", "theirs")
        assert worker.read("Front") == "theirs"
        del worker.wiki.names
        worker.cache_manager.prune(keep=1)
        worker.cache_manager.evict()
        assert worker.cache_manager.statistics.entries == 0

    elsewhere(everything)
    assert not slow.done()
    gate.open()
    assert slow.result(SECONDS) == {"Front"}


def test_g10_a_sizer_may_take_its_time(worker: Worker) -> None:
    gate = Gate()

    def sizer(value: object) -> int:
        if value == frozenset():
            gate()
        return 1

    sized = Worker(worker.database, max_bytes=1_000, sizer=sizer)
    slow = in_thread(lambda: sized.wiki.names)
    gate.wait()
    assert elsewhere(lambda: sized.read("Front")) is None
    gate.open()
    assert slow.result(SECONDS) == frozenset()


def test_g10_a_pool_of_one(worker: Worker) -> None:
    """Whoever holds the pool's last connection gets by with it."""
    options = {"pool_size": 1, "max_overflow": 0, "pool_timeout": 1}
    tight = Worker(worker.database, engine=worker.database.engine(**options))
    worker.write("Front", "old")
    with tight.cache_manager.request(), tight.cache_manager.begin() as connection:
        connection.execute(select(page.c.name)).all()
        assert PageText(tight, "Front").text == "old"
        assert tight.wiki.names == {"Front"}
        put(connection, "Front", "new")
        del PageText(tight, "Front").text
        assert PageText(tight, "Front").text == "new"
    with tight.cache_manager.connect() as connection:
        connection.execute(select(page.c.name)).all()
        assert tight.read("Front") == "new"
        connection.rollback()
        if not worker.database.is_sqlite:
            del tight.wiki.names
    del tight.wiki.names
    assert tight.wiki.names == {"Front"}
    wait_for_older_transactions(worker)
    assert tight.cache_manager.prune(keep=1) >= 1
    assert tight.engine.pool.checkedout() == 0  # type: ignore[attr-defined]


def test_g10_first_invalidation_twice(worker: Worker, other: Worker) -> None:
    """Two transactions invalidate a key that nobody has invalidated before."""
    if worker.database.is_sqlite:
        pytest.skip("one transaction writes at a time")
    with worker.cache_manager.begin() as one, other.engine.begin() as two:
        one.execute(page.insert().values(name="one", text="", version=0))
        two.execute(page.insert().values(name="two", text="", version=0))
        worker.cache_manager.invalidate("new", connection=one)
        other.cache_manager.invalidate("new", connection=two)
    for reader in (worker, other):
        assert reader.cache_manager.get("new", lambda: "value") == "value"


@pytest.mark.on("mariadb")
def test_g10_a_rollback_in_two_phases(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    """It begins with an XA END, as a PREPARE does; where the server has rolled the transaction back
    already (a deadlock), a statement of ours fails: "in the ROLLBACK ONLY state"."""

    def write(*_: object) -> None:
        raise AssertionError("written in a rollback")

    with worker.engine.connect() as connection:
        transaction = connection.begin_twophase()
        put(connection, "Front", "new")
        del PageText(worker, "Front").text
        monkeypatch.setattr(worker.cache_manager.core.ledger, "write", write)
        transaction.rollback()
        monkeypatch.undo()
    worker.write("Front", "newer")
    assert worker.read("Front") == "newer"


@pytest.mark.on("mariadb")
def test_g10_a_new_connection_waits_for_nobody(worker: Worker) -> None:
    """At SERIALIZABLE, while a transaction that has invalidated something is prepared."""
    engine = worker.database.engine(isolation_level="SERIALIZABLE")
    with worker.engine.connect() as connection:
        prepared = connection.begin_twophase()
        put(connection, "Front", "new")
        del PageText(worker, "Front").text
        prepared.prepare()
        late = Worker(worker.database, engine=engine)  # it listens to new connections
        connecting = in_thread(lambda: late.engine.connect().close())
        try:
            connecting.result(5)
        finally:
            prepared.rollback()


@pytest.mark.on("mariadb")
def test_g10_a_new_connection_locks_nothing(worker: Worker, other: Worker) -> None:
    """At SERIALIZABLE, when the lane that it makes has a number that somebody has claimed: the
    tables were made anew while he was connected."""
    names: list[str] = []
    first = Worker(worker.database)
    ledger: Any = first.cache_manager.core.ledger
    prefix_of = ledger._lock_prefix
    ledger._lock_prefix = lambda execute: names.append(prefix_of(execute)) or names[0]
    first.write("Front", "old")
    with worker.database.engine().connect() as holder:
        for lane in range(1, 30):
            holder.execute(text("SELECT GET_LOCK(:name, 0)"), {"name": f"{names[0]}{lane}"})
        engine = worker.database.engine(isolation_level="SERIALIZABLE")
        locking = Worker(worker.database, engine=engine)
        with locking.engine.connect() as connection:
            connection.execute(select(text("1")))
            in_thread(lambda: worker.write("Front", "new")).result(5)
            in_thread(lambda: other.write("Front", "newer")).result(5)
            connection.rollback()
        assert locking.read("Front") == "newer"


@pytest.mark.parametrize("isolation", ["REPEATABLE READ", "SERIALIZABLE"])
def test_g10_adds_no_failure(worker: Worker, isolation: str) -> None:
    """Transactions that do not meet in their data do not meet in what they invalidate either."""

    def failures(invalidate: bool) -> int:
        if worker.database.is_sqlite:
            engine = worker.database.engine(connect_args={"timeout": 30})
            begin_with(engine, "BEGIN IMMEDIATE")
        else:
            engine = worker.database.engine(isolation_level=isolation, pool_size=6)
        busy = Worker(worker.database, engine=engine)
        return _run_writers(busy, invalidate)

    alone = failures(invalidate=False)
    assert failures(invalidate=True) <= alone


def _run_writers(worker: Worker, invalidate: bool) -> int:
    """Four threads insert rows of their own, in fifteen transactions each; return how many failed.
    Each reads cached values meanwhile, and all invalidate the same keys in different orders."""
    start = threading.Barrier(4)

    def write(number: int) -> int:
        keys = ["x", "y", "z"] if number % 2 else ["z", "y", "x"]
        failed = 0
        start.wait(SECONDS)
        for turn in range(15):
            try:
                with worker.cache_manager.request(), worker.cache_manager.begin() as connection:
                    name = f"{invalidate} {number} {turn}"
                    connection.execute(page.insert().values(name=name, text="", version=0))
                    for key in keys if invalidate else ():
                        worker.cache_manager.invalidate(key)
                        worker.cache_manager.get(key, lambda: "value")
            except DBAPIError:
                failed += 1
        return failed

    futures = [in_thread(lambda number=number: write(number)) for number in range(4)]  # type: ignore
    return sum(future.result(60) for future in futures)


@pytest.mark.on("sqlite-journal", "sqlite-wal")
@pytest.mark.parametrize("how", ["its own statement", "a recipe before", "a recipe after"])
def test_check_beside_own_exclusive_transaction(worker: Worker, other: Worker, how: str) -> None:
    """Nobody else may read while a transaction holds the EXCLUSIVE lock of a rollback journal:
    the check of its own request must not wait for it."""
    engine = worker.database.engine(connect_args={"timeout": 0.2})
    if how == "a recipe before":
        begin_with(engine, "BEGIN EXCLUSIVE")
    locking = Worker(worker.database, engine=engine)
    if how == "a recipe after":
        begin_with(engine, "BEGIN EXCLUSIVE")
    other.write("Front", "old")
    assert locking.read("Front") == "old"
    other.write("Front", "new")
    with locking.cache_manager.request(), locking.cache_manager.begin() as connection:
        if how == "its own statement":
            connection.execute(text("BEGIN EXCLUSIVE"))
        locking.cache_manager.reset_metadata()  # a BEGIN was looked at before it was sent
        assert PageText(locking, "Front").text == "new"
        put(connection, "Front", "mine")
        del PageText(locking, "Front").text
        assert PageText(locking, "Front").text == "mine"
    assert other.read("Front") == "mine"


@pytest.mark.on("sqlite-journal")
def test_check_beside_own_reading_transaction(worker: Worker, other: Worker) -> None:
    """
    reader   BEGIN and reads: a SHARED lock
    other    commits: waits for the reader, and lets no new reader in
    reader   looks at the ledger: a second connection would wait for `other`, who waits for us
    """
    engine = worker.database.engine(connect_args={"timeout": 1})
    begin_with(engine, "BEGIN")
    reader = Worker(worker.database, engine=engine)
    other.write("Front", "old")
    assert reader.read("Front") == "old"
    with reader.engine.connect() as connection:
        connection.execute(select(page)).all()
        started = threading.Event()

        def commit() -> None:
            with other.cache_manager.begin() as writing:
                put(writing, "Front", "new")
                del PageText(other, "Front").text
                started.set()

        committing = in_thread(commit)
        assert started.wait(SECONDS)
        while not committing.done() and _can_read(worker):
            pass  # until the writer is waiting for the reader
        assert reader.read("Front") == "old"
        assert reader.wiki.names == {"Front"}
        connection.rollback()
    committing.result(SECONDS)
    assert reader.read("Front") == "new"


def _can_read(worker: Worker) -> bool:
    engine = worker.database.engine(connect_args={"timeout": 0})
    try:
        with engine.connect() as connection:
            connection.execute(select(page)).all()
    except DBAPIError:
        return False
    finally:
        engine.dispose()
    return True


@pytest.mark.on("sqlite-journal")
def test_g10_transactions_that_lock_keep_what_is_cached(worker: Worker) -> None:
    """Who reads in locking transactions only finds what he has read before all the same."""
    engine = worker.database.engine()
    begin_with(engine, "BEGIN IMMEDIATE")
    locking = Worker(worker.database, engine=engine)

    def names() -> frozenset[str]:
        with locking.cache_manager.begin():  # without a view, or it is looked before the BEGIN
            return locking.wiki.names

    for name, expected in (("Front", {"Front"}), ("Back", {"Front", "Back"})):
        worker.write(name, "new")
        assert names() == names() == expected
        calls = locking.wiki.calls
        for _ in range(3):
            assert names() == expected
        assert locking.wiki.calls == calls


@pytest.mark.on("postgresql", "mariadb")
def test_g10_a_load_that_waits_behind_a_writer(worker: Worker, other: Worker) -> None:
    """A request has read the table, a writer wants it for himself and waits for that request, and a
    load of another thread waits behind the writer.  The request reads the value being loaded."""
    worker.write("Front", "old")
    worker.cache_manager.evict()
    gate = Gate()
    worker.wiki.before = gate
    wanted = (
        "LOCK TABLE page IN ACCESS EXCLUSIVE MODE"
        if worker.database.kind == "postgresql"
        else "ALTER TABLE page COMMENT 'changed'"
    )

    def write() -> None:
        with other.engine.begin() as connection:
            connection.exec_driver_sql(wanted)

    with worker.cache_manager.request(), worker.engine.begin() as connection:
        connection.execute(select(page.c.name)).all()
        load = in_thread(lambda: worker.wiki.names)
        gate.wait()
        writer = in_thread(write)
        _until_waiting(worker, 1)
        worker.wiki.before = lambda: None
        gate.open()
        _until_waiting(worker, 2)
        assert worker.wiki.names == {"Front"}
        assert not writer.done()
    writer.result(SECONDS)
    assert load.result(SECONDS) == {"Front"}


def test_g10_a_load_that_waits_behind_a_writer_for_ever(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same with a load that ends after the request only; somebody who holds no lock waits."""
    monkeypatch.setattr(loading, "_PATIENCE", 0.01)
    gate = Gate()

    class Names:
        env = worker
        calls = 0

        @cached
        def value(self) -> frozenset[str]:
            Names.calls += 1
            with worker.cache_manager.connect() as connection:
                found = frozenset(connection.scalars(select(page.c.name)))
                if Names.calls == 1:
                    gate()
            return found

    load = in_thread(lambda: Names().value)
    gate.wait()
    patient = in_thread(lambda: Names().value)
    with worker.cache_manager.request(), worker.engine.begin() as connection:
        connection.execute(select(page.c.name)).all()
        assert Names().value == frozenset()
    assert not load.done()
    gate.open()
    assert load.result(SECONDS) == patient.result(SECONDS) == frozenset()
    assert Names.calls == 2


def _until_waiting(worker: Worker, number: int) -> None:
    """The server is asked: nothing else shows that a statement waits for a lock."""
    query = (
        "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'page'::regclass"
        if worker.database.kind == "postgresql"
        else "SELECT count(*) FROM information_schema.processlist WHERE db = DATABASE() "
        "AND state LIKE 'Waiting for table metadata lock%%'"
    )
    engine = worker.database.engine(isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for _ in range(500):
            if connection.exec_driver_sql(query).scalar() == number:
                return
            time.sleep(0.01)
    raise AssertionError(f"there are not {number} who wait")
