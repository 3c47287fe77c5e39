"""`del` finds its transaction whatever way the application holds it, also before it has begun."""

from __future__ import annotations

import contextlib
import contextvars
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import Connection, event, insert, select, text
from sqlalchemy.orm import Session

from coherent_cache import cached

from .hard_cases.support import Page
from .workers import PageText, Wiki, Worker, page, put

NEW = insert(page).values(name="a", text="", version=0)


def test_connection_that_has_not_begun(worker: Worker, other: Worker) -> None:
    """The `del` comes before the first statement of a commit-as-you-go connection."""
    assert worker.wiki.names == other.wiki.names == frozenset()
    with worker.engine.connect() as connection:
        del worker.wiki.names
        if not worker.database.is_sqlite:
            assert other.wiki.names == frozenset()  # loaded anew, before the write commits
        connection.execute(NEW)
        assert worker.wiki.names == {"a"}
        connection.commit()
    assert worker.wiki.names == other.wiki.names == {"a"}


def test_session_that_has_not_begun(worker: Worker, other: Worker) -> None:
    with Session(worker.engine) as session:
        session.execute(select(page.c.name)).all()
        session.commit()
        assert worker.wiki.names == other.wiki.names == frozenset()
        del worker.wiki.names
        assert other.wiki.names == frozenset()
        session.execute(NEW)
        session.commit()
    assert worker.wiki.names == other.wiki.names == {"a"}


@pytest.mark.parametrize("given", [True, False])
def test_read_in_a_session_that_began_after_the_del(worker: Worker, given: bool) -> None:
    """`del`, then an object is added, then a read: it is flushed first, as it is after a `del` that
    comes between the two."""
    with worker.cache_manager.request(), Session(worker.engine) as session:
        session.execute(select(page.c.name)).all()
        session.rollback()
        worker.cache_manager.invalidate(worker.wiki, "names", session=session if given else None)
        session.add(Page(name="a", text="", version=0))
        assert worker.wiki.names == {"a"}
        session.rollback()
        assert worker.wiki.names == frozenset()


@pytest.mark.on("sqlite-wal", "postgresql", "mariadb")
@pytest.mark.parametrize("way", ["connection", "session"])
def test_one_that_has_not_begun_beside_an_open_one(worker: Worker, other: Worker, way: str) -> None:
    """The `del` is meant for the write that comes next on a connection without a transaction; the
    transaction that is open beside it is another, and rolls back."""
    assert worker.wiki.names == other.wiki.names == frozenset()
    with contextlib.ExitStack() as stack:
        beside = stack.enter_context(worker.engine.connect())
        beside.execute(select(page.c.name)).all()
        if way == "connection":
            writer: Any = stack.enter_context(worker.engine.connect())
        else:
            writer = stack.enter_context(Session(worker.engine))
            writer.execute(select(page.c.name)).all()
            writer.commit()
        del worker.wiki.names
        writer.execute(NEW)
        writer.commit()
        beside.rollback()
        assert other.wiki.names == {"a"}
    assert worker.wiki.names == {"a"}


@pytest.mark.parametrize("computed", ["here", "by another thread"])
@pytest.mark.parametrize("way", ["connection", "session"])
def test_read_between_del_and_the_first_statement(worker: Worker, way: str, computed: str) -> None:
    """What was read after the `del`, when the transaction had not begun, is not what the request
    sees after it has written in it."""
    with worker.cache_manager.request(), contextlib.ExitStack() as stack:
        if way == "connection":
            writer: Any = stack.enter_context(worker.engine.connect())
        else:
            writer = stack.enter_context(Session(worker.engine))
            writer.execute(select(page.c.name)).all()
            writer.commit()
        del worker.wiki.names
        if computed == "by another thread":
            with ThreadPoolExecutor(1) as pool:
                assert pool.submit(lambda: worker.wiki.names).result() == frozenset()
        assert worker.wiki.names == frozenset()
        writer.execute(NEW)
        assert worker.wiki.names == {"a"}
        writer.rollback()
        assert worker.wiki.names == frozenset()


def test_tasks_outside_a_request_do_not_see_each_others_values(worker: Worker) -> None:
    """Two threads got a copy of one context in which a transaction had been open before (as the
    tasks of a server copy that of its start-up).  One writes and reads; the other sees nothing."""
    with worker.cache_manager.begin():
        pass
    assert worker.wiki.names == frozenset()
    written, done = threading.Event(), threading.Event()

    def write() -> frozenset[str]:
        with worker.cache_manager.begin() as connection:
            connection.execute(NEW)
            del worker.wiki.names
            found = worker.wiki.names
            written.set()
            assert done.wait(30)
        return found

    def read() -> frozenset[str]:
        assert written.wait(30)
        try:
            return worker.wiki.names
        finally:
            done.set()

    with ThreadPoolExecutor(2) as pool:
        writer = pool.submit(contextvars.copy_context().run, write)
        reader = pool.submit(contextvars.copy_context().run, read)
        assert reader.result() == frozenset()
        assert writer.result() == {"a"}
    assert worker.wiki.names == {"a"}


@pytest.mark.on("postgresql", "mariadb")
def test_a_del_that_reached_anothers_transaction(worker: Worker) -> None:
    """Tasks with one context: a `del` in the request of one goes to the transaction of the other as
    well, which may be meant.  What the other invalidates is no concern of the request."""
    with worker.cache_manager.begin():
        pass
    opened, deleted, committed = threading.Event(), threading.Event(), threading.Event()

    def job() -> None:
        with worker.cache_manager.begin() as connection:
            connection.execute(NEW)
            del worker.wiki.names
            opened.set()
            assert deleted.wait(30)
        committed.set()

    def request() -> None:
        assert opened.wait(30)
        with worker.cache_manager.request():
            assert worker.wiki.names == frozenset()
            del PageText(worker, "b").text
            deleted.set()
            assert committed.wait(30)
            assert worker.wiki.names == frozenset()
        assert worker.wiki.names == {"a"}

    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(contextvars.copy_context().run, f) for f in (job, request)]
        for one in both:
            one.result()


@pytest.mark.on("postgresql", "mariadb", "sqlite-wal")
@pytest.mark.parametrize("job", ["a transaction", "a session", "a session without a connection"])
@pytest.mark.parametrize(
    ("order", "within"),
    [
        ("after the commit", "a request"),
        ("after the commit", "none"),
        # With none nobody knows of a connection that is to come.
        ("before the write", "a request"),
    ],
)
def test_a_del_beside_a_job_that_rolls_back(
    worker: Worker, other: Worker, job: str, order: str, within: str
) -> None:
    """A thread or task with a copy of the same context has something open, which is all that the
    `del` finds.  It may be meant; what is invalidated is not left to what becomes of it."""
    worker.write("Front", "one")
    assert other.read("Front") == worker.read("Front") == "one"

    def begin() -> Any:
        if job == "a transaction":
            connection = worker.engine.connect()
            connection.execute(text("SELECT 1"))
            return connection
        session = Session(worker.engine)
        session.begin()
        if job == "a session":
            session.execute(text("SELECT 1"))
        return session

    def change() -> None:
        if order == "before the write":
            del PageText(worker, "Front").text
            assert other.read("Front") == "one"
        with worker.engine.begin() as connection:
            put(connection, "Front", "two")
        if order == "after the commit":
            del PageText(worker, "Front").text

    with ThreadPoolExecutor(1) as pool:
        opened = pool.submit(contextvars.copy_context().run, begin).result()
        if within == "none":
            change()
        else:
            with worker.cache_manager.request():
                change()
                assert PageText(worker, "Front").text == "two"
        assert worker.read("Front") == other.read("Front") == "two"
        opened.rollback()
        opened.close()
    assert worker.read("Front") == other.read("Front") == "two"


def number_of_rows(worker: Worker) -> Any:
    with worker.engine.connect() as connection:
        return connection.scalar(text("SELECT count(*) FROM cache"))


@pytest.mark.on("postgresql", "mariadb", "sqlite-wal")
@pytest.mark.parametrize("with_", ["connection", "session", "session that only began"])
@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_a_del_of_one_who_was_handed_the_transaction(
    worker: Worker, other: Worker, with_: str, end: str
) -> None:
    """A thread with a copy of the context writes in a transaction that another one began, outside
    any request: its `del` is in there, where it sees what it wrote, and nobody else does."""
    worker.write("Front", "one")
    assert other.read("Front") == worker.read("Front") == "one"
    before = number_of_rows(worker)

    def change(handed: Any) -> None:
        put(handed, "Front", "two")
        del PageText(worker, "Front").text
        assert worker.read("Front") == "two"
        assert other.read("Front") == "one"

    handed = worker.engine.connect() if with_ == "connection" else Session(worker.engine)
    with ThreadPoolExecutor(1) as pool, handed:
        handed.begin()
        if with_ == "session":
            handed.execute(text("SELECT 1"))
        pool.submit(contextvars.copy_context().run, change, handed).result()
        assert worker.read("Front") == "two"
        assert other.read("Front") == "one"
        assert number_of_rows(worker) == before
        handed.commit() if end == "commit" else handed.rollback()
    expected = "two" if end == "commit" else "one"
    assert worker.read("Front") == other.read("Front") == expected


@pytest.mark.on("postgresql", "mariadb", "sqlite-wal")
def test_a_del_beside_a_session_of_its_own_that_another_went_on_with(worker: Worker) -> None:
    """A session's transaction is the session's, whoever executed its first statement."""
    worker.write("Front", "one")
    with ThreadPoolExecutor(1) as pool, Session(worker.engine) as session:
        session.begin()
        pool.submit(contextvars.copy_context().run, put, session, "Front", "two").result()
        del PageText(worker, "Front").text  # on SQLite nobody else could write now
        session.commit()
    assert worker.read("Front") == "two"


@pytest.mark.on("postgresql", "mariadb")
@pytest.mark.parametrize("undo", ["savepoint", "transaction"])
def test_a_del_that_was_undone_here_and_stays_in_anothers_transaction(
    worker: Worker, undo: str
) -> None:
    """It reached both.  The request takes its own back; that the other task commits is then not
    what the request has done: it keeps its one value."""
    with worker.cache_manager.begin():
        pass
    opened, read, committed = threading.Event(), threading.Event(), threading.Event()

    def job() -> None:
        with worker.cache_manager.begin() as connection:
            connection.execute(NEW)
            opened.set()
            assert read.wait(30)
        committed.set()

    def request() -> None:
        assert opened.wait(30)
        with worker.cache_manager.request():
            with worker.engine.connect() as connection:
                connection.begin()
                savepoint = connection.begin_nested()
                del worker.wiki.names
                if undo == "savepoint":
                    savepoint.rollback()
                    connection.commit()
                else:
                    connection.rollback()
            assert worker.wiki.names == frozenset()
            read.set()
            assert committed.wait(30)
            assert worker.wiki.names == frozenset()
        assert worker.wiki.names == {"a"}

    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(contextvars.copy_context().run, f) for f in (job, request)]
        for one in both:
            one.result()


@pytest.mark.on("postgresql", "mariadb")
def test_a_value_that_is_read_while_another_key_is_invalidated_stays(
    worker: Worker, other: Worker
) -> None:
    """Two threads of a request: one computes a value, the other commits the invalidation of
    something else meanwhile.  The value is the request's all the same."""
    computing, committed = threading.Event(), threading.Event()
    values = iter([1, 2])

    def slow() -> int:
        computing.set()
        assert committed.wait(30)
        return next(values)

    def write() -> None:
        assert computing.wait(30)
        worker.cache_manager.invalidate("something else")
        other.cache_manager.invalidate("slow")
        committed.set()

    with ThreadPoolExecutor(1) as pool, worker.cache_manager.request():
        running = pool.submit(contextvars.copy_context().run, write)
        assert worker.cache_manager.get("slow", slow) == 1
        running.result()
        assert worker.cache_manager.get("slow", slow) == 1


def test_views_around_are_told(worker: Worker) -> None:
    """A commit in an inner view is the outer request's own as well."""
    with worker.cache_manager.request():
        assert worker.wiki.names == frozenset()
        with worker.cache_manager.request():
            worker.write("a", "")
        assert worker.wiki.names == {"a"}


def test_given_connection_that_has_not_begun(worker: Worker, other: Worker) -> None:
    assert worker.wiki.names == other.wiki.names == frozenset()
    with worker.engine.connect() as connection:
        worker.cache_manager.invalidate(worker.wiki, "names", connection=connection)
        assert other.wiki.names == frozenset()
        connection.execute(NEW)
        connection.commit()
    assert worker.wiki.names == other.wiki.names == {"a"}


class Louder(Wiki):
    @cached
    def names(self) -> frozenset[str]:
        return frozenset(name.upper() for name in super().names)


def test_del_of_an_override_reaches_what_it_overrides(worker: Worker) -> None:
    louder = Louder(worker)
    assert louder.names == frozenset()
    with worker.cache_manager.begin() as connection:
        connection.execute(NEW)
        del louder.names
        assert louder.names == {"A"}
    assert louder.names == {"A"}


@pytest.mark.on("sqlite-wal", "postgresql", "mariadb")
def test_ledger_engine(worker: Worker, other: Worker) -> None:
    """The ledger's own connections come from another engine, the transactions from the first."""
    direct = worker.database.engine()
    both = Worker(worker.database, ledger_engine=direct)
    assert both.wiki.names == other.wiki.names == frozenset()
    both.write("a", "")
    assert both.wiki.names == other.wiki.names == {"a"}
    del both.wiki.names
    assert both.wiki.names == {"a"}


def test_del_in_a_commit_listener(worker: Worker, other: Worker) -> None:
    """What a listener of the application's invalidates at the last moment goes along."""
    worker.write("b", "")
    assert worker.wiki.names == other.wiki.names == {"b"}
    pages = worker.wiki

    @event.listens_for(worker.engine, "commit")
    def invalidate(connection: Connection) -> None:
        del pages.names

    with worker.engine.begin() as connection:
        connection.execute(NEW)
        del PageText(worker, "a").text
    assert worker.wiki.names == other.wiki.names == {"a", "b"}


@pytest.mark.parametrize("way", ["session", "connection", "begin", "orm"])
def test_session_that_was_never_used_before_the_del(
    worker: Worker, other: Worker, way: str
) -> None:
    """In a request the `del` comes first: nothing has begun, and nobody knows of the session."""
    worker.write("Front", "old")
    with worker.cache_manager.request():
        shown = PageText(worker, "Front")
        assert shown.text == "old"
        del shown.text
        assert other.read("Front") == worker.read("Front") == "old"  # loaded anew
        assert shown.text == "old"
        changed = page.update().values(text="new")
        if way == "session":
            with Session(worker.engine) as session:
                session.execute(changed)
                assert shown.text == "new"
                session.commit()
        elif way == "orm":
            with Session(worker.engine) as session:
                session.get_one(Page, "Front").text = "new"
                session.commit()
        elif way == "connection":
            with worker.engine.connect() as connection:
                connection.execute(changed)
                connection.commit()
        else:
            with worker.engine.begin() as connection:
                connection.execute(changed)
        assert shown.text == "new"
    assert other.read("Front") == worker.read("Front") == "new"


def test_session_that_was_never_used_and_rolls_back_first(worker: Worker, other: Worker) -> None:
    """A write that is tried again after it failed still has its `del`; one that has committed with
    it is not followed by another."""
    worker.write("Front", "old")
    with worker.cache_manager.request():
        del PageText(worker, "Front").text
        with Session(worker.engine) as session:
            session.execute(page.update().values(text="failed"))
            session.rollback()
            assert other.read("Front") == "old"
            session.execute(page.update().values(text="new"))
            session.commit()
        assert other.read("Front") == "new"
        rows = worker.cache_manager.status().rows
        with worker.engine.begin() as connection:
            connection.execute(page.update().values(version=7))
        assert worker.cache_manager.status().rows == rows


def test_session_that_was_never_used_and_only_reads(worker: Worker) -> None:
    """A transaction that writes nothing is left alone."""
    worker.write("Front", "old")
    with worker.cache_manager.request():
        del PageText(worker, "Front").text
        rows = worker.cache_manager.status().rows
        with Session(worker.engine) as session:
            session.execute(select(page.c.text)).all()
            session.commit()
        assert worker.cache_manager.status().rows == rows


@pytest.mark.on("postgresql")
def test_session_that_was_never_used_and_writes_by_a_select(worker: Worker, other: Worker) -> None:
    worker.write("Front", "old")
    with worker.engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE FUNCTION change() RETURNS void LANGUAGE sql AS "
            "$$ UPDATE page SET text = 'new' $$"
        )
    with worker.cache_manager.request():
        del PageText(worker, "Front").text
        assert other.read("Front") == "old"
        with worker.engine.begin() as connection:
            connection.exec_driver_sql("SELECT change()")
    assert other.read("Front") == "new"
