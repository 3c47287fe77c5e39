"""G3: after `del` a request sees its own data, in its transaction and after it."""

from __future__ import annotations

import contextvars

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from coherent_cache import View

from ..hard_cases.support import Page
from ..schedules.schedule import Schedule
from ..workers import PageText, Worker, page, put
from .helpers import elsewhere


def test_g03_in_the_transaction_and_after_it(worker: Worker) -> None:
    worker.write("Front", "old")
    with worker.cache_manager.request():
        shown = PageText(worker, "Front")
        assert shown.text == "old"
        with worker.cache_manager.begin() as connection:
            put(connection, "Front", "mine")
            assert shown.text == "old"
            del shown.text
            assert shown.text == "mine"
        assert shown.text == "mine"
    assert worker.read("Front") == "mine"


def test_g03_the_del_comes_first(worker: Worker) -> None:
    worker.write("Front", "old")
    with worker.cache_manager.request(), worker.cache_manager.begin() as connection:
        del PageText(worker, "Front").text
        assert PageText(worker, "Front").text == "old"
        put(connection, "Front", "mine")
        assert PageText(worker, "Front").text == "mine"


def test_g03_a_write_after_the_first_own_read(worker: Worker) -> None:
    """A `del` covers the whole transaction: what it writes later shows as well."""
    worker.write("Front", "old")
    with worker.cache_manager.request():
        shown = PageText(worker, "Front")
        with worker.cache_manager.begin() as connection:
            put(connection, "Front", "mine")
            del shown.text
            assert shown.text == "mine"
            put(connection, "Front", "mine, better")
            assert shown.text == "mine, better"
            nested = connection.begin_nested()
            put(connection, "Front", "a try")
            assert shown.text == "a try"
            nested.rollback()
            assert shown.text == "mine, better"
        assert shown.text == "mine, better"


def test_g03_what_depends_on_it(worker: Worker) -> None:
    worker.write("Front", "old")
    with worker.cache_manager.request():
        assert worker.wiki.names == {"Front"}
        with worker.cache_manager.begin() as connection:
            put(connection, "Back", "mine")
            del worker.wiki.names
            assert worker.wiki.names == {"Front", "Back"}
            assert elsewhere(lambda: worker.wiki.names) == {"Front"}
            assert worker.wiki.names == {"Front", "Back"}
        assert worker.wiki.names == {"Front", "Back"}


def test_g03_a_session_with_nothing_flushed(worker: Worker) -> None:
    worker.write("Front", "old")
    with worker.cache_manager.request(), Session(worker.engine) as session:
        session.execute(page.update().values(text="mine"))
        del PageText(worker, "Front").text
        assert PageText(worker, "Front").text == "mine"
        session.commit()
        assert PageText(worker, "Front").text == "mine"


def test_g03_a_del_of_another_thread_beside_a_session_with_nothing_flushed(worker: Worker) -> None:
    """What one thread of the request has in its session is flushed before it reads, also if another
    one has invalidated something meanwhile."""
    worker.write("Front", "old")
    with worker.cache_manager.request(), Session(worker.engine) as session:
        session.add(Page(name="Back", text="mine", version=0))
        del PageText(worker, "Back").text
        context = contextvars.copy_context()
        elsewhere(
            lambda: context.run(worker.cache_manager.invalidate, PageText(worker, "Front"), "text")
        )
        assert PageText(worker, "Back").text == "mine"
        session.commit()
    assert worker.read("Back") == "mine"


@pytest.mark.on("sqlite-wal", "postgresql", "mariadb")
@pytest.mark.parametrize("has", ["connection", "session"])
def test_g03_the_session_of_another_thread_is_not_flushed(worker: Worker, has: str) -> None:
    """Two threads of a request with a session each: neither flushes the other's, which may be in
    the middle of something."""
    worker.write("Front", "old")

    def work_beside() -> None:
        with Session(worker.engine) as own:
            if has == "connection":
                own.execute(select(page)).all()
            else:
                own.begin()
            del PageText(worker, "Front").text
            assert PageText(worker, "Front").text == "old"

    with worker.cache_manager.request(), Session(worker.engine) as session:
        session.add(Page(name="Back", text="mine", version=0))
        context = contextvars.copy_context()
        elsewhere(lambda: context.run(work_beside))
        assert list(session.new)
        del PageText(worker, "Back").text
        assert PageText(worker, "Back").text == "mine"
        assert not session.new


@pytest.mark.on("sqlite-wal", "sqlite-journal", "postgresql")
def test_g03_a_look_of_another_thread_of_the_request(worker: Worker, schedule: Schedule) -> None:
    """A request works in two threads, with one view.  One looks at the ledger and is held up with
    the answer; the other commits: its view has to look again, although a look ends after that.

    (On MariaDB the first statement of a transaction waits for the look that is under way.)
    """
    worker.write("Front", "old")
    assert worker.read("Front") == "old"
    with worker.cache_manager.request():
        contexts = [contextvars.copy_context() for _ in range(2)]
        schedule(
            """
            helper  reaches  check: news read, not applied
            writer  ends
            helper  ends
            """,
            helper=lambda: contexts[0].run(lambda: PageText(worker, "Other").text),
            writer=lambda: contexts[1].run(worker.write, "Front", "mine"),
        )
        assert PageText(worker, "Front").text == "mine"


@pytest.mark.on("postgresql", "mariadb")
@pytest.mark.parametrize("way", ["a transaction", "by itself"])
def test_g03_read_while_the_view_is_told(
    worker: Worker, other: Worker, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """The commit has returned and the view is being told; another thread of the request reads just
    then.  What it reads is what the request goes on with: it must not be the old value."""
    worker.write("Front", "old")
    calls, seen = 0, []
    forget = View.forget

    def forget_and_let_another_read(view: View, keys: frozenset[str]) -> object:
        nonlocal calls
        found = forget(view, keys)
        calls += 1
        if calls == 2:  # the first is at the `del`
            reading = contextvars.copy_context()
            seen.append(elsewhere(lambda: reading.run(lambda: PageText(worker, "Front").text)))
        return found

    with worker.cache_manager.request():
        assert PageText(worker, "Front").text == "old"
        monkeypatch.setattr(View, "forget", forget_and_let_another_read)
        if way == "a transaction":
            with worker.cache_manager.begin() as connection:
                put(connection, "Front", "mine")
                del PageText(worker, "Front").text
        else:
            with elsewhere(other.engine.connect) as connection:
                put(connection, "Front", "mine")
                connection.commit()
            del PageText(worker, "Front").text
        assert len(seen) == 1
        assert PageText(worker, "Front").text == "mine"
