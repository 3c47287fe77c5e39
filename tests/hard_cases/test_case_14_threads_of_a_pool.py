"""Hard case 14: a request that is served by several threads.

A framework runs the parts of one request in threads of a pool, each with a copy of the request's
context: a dependency opens the session in one thread, the endpoint works with it in another.  The
threads share the request's view and its transactions, and have nothing in common with others.
"""

from __future__ import annotations

import contextvars
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import pytest
from sqlalchemy.orm import Session

from coherent_cache.scope import Scope
from coherent_cache.transaction import Transaction

from ..workers import PageText, Worker, page, put

pytestmark = pytest.mark.on("sqlite-wal", "postgresql", "mariadb")
_T = TypeVar("_T")

RunInThread = Callable[[Callable[[], _T]], _T]


@pytest.fixture
def in_thread() -> Any:
    """Runs a function in another thread, a new one each time, with a copy of the context."""

    def run(function: Callable[[], _T]) -> _T:
        context = contextvars.copy_context()
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(context.run, function).result()

    return run


@pytest.mark.parametrize("end", ["commit", "rollback"])
@pytest.mark.parametrize("began", ["unused", "read", "wrote"])
def test_case_14_session_of_another_thread(
    worker: Worker, other: Worker, in_thread: Any, end: str, began: str
) -> None:
    """The session is opened in one thread, written with and invalidated in a second one, and
    committed in a third."""
    worker.write("Front", "old")
    assert worker.read("Front") == other.read("Front") == "old"
    expected = "new" if end == "commit" else "old"
    with worker.cache_manager.request():

        def dependency() -> Session:
            session = Session(worker.engine)
            if began == "read":
                session.execute(page.select()).all()
            elif began == "wrote":
                session.execute(page.update().values(version=5))
            return session

        def endpoint(session: Session) -> None:
            session.execute(page.update().values(text="new"))
            del PageText(worker, "Front").text
            assert PageText(worker, "Front").text == "new"

        session = in_thread(dependency)
        in_thread(lambda: endpoint(session))
        assert other.read("Front") == "old"
        in_thread(getattr(session, end))
        assert in_thread(lambda: PageText(worker, "Front").text) == expected
        assert PageText(worker, "Front").text == expected
        in_thread(session.close)
    assert worker.read("Front") == other.read("Front") == expected


def test_case_14_del_before_the_sessions_first_statement(
    worker: Worker, other: Worker, in_thread: Any
) -> None:
    """The transaction began in one thread without a connection; the `del` comes from another, and
    the write that it is for from a third."""
    worker.write("Front", "old")
    assert other.read("Front") == "old"
    with worker.cache_manager.request():
        session = Session(worker.engine)
        in_thread(session.begin)
        in_thread(lambda: PageText(worker, "Front").__class__.text.__delete__(
            PageText(worker, "Front")
        ))  # fmt: skip
        in_thread(lambda: session.execute(page.update().values(text="new")))
        assert other.read("Front") == "old"
        in_thread(session.commit)
        session.close()
    assert worker.read("Front") == other.read("Front") == "new"


def test_case_14_one_view(worker: Worker, other: Worker, in_thread: Any) -> None:
    """What one thread of the request has read the others see, whatever is committed meanwhile."""
    worker.write("Front", "old")
    with worker.cache_manager.request():
        assert in_thread(lambda: PageText(worker, "Front").text) == "old"
        other.write("Front", "new")
        assert in_thread(lambda: PageText(worker, "Front").text) == "old"
        assert PageText(worker, "Front").text == "old"
        assert worker_of_its_own(worker) == "new"
    assert worker.read("Front") == "new"


def worker_of_its_own(worker: Worker) -> str | None:
    """What a thread reads that belongs to no request."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: PageText(worker, "Front").text).result()


def test_case_14_other_requests_are_not_concerned(worker: Worker, other: Worker) -> None:
    """A `del` in one request does not wait for a transaction of another one."""
    worker.write("Front", "old")
    worker.write("Back", "old")
    assert other.read("Back") == "old"
    opened, done = threading.Event(), threading.Event()

    def slow_request() -> None:
        with worker.cache_manager.request(), worker.engine.connect() as connection:
            connection.execute(page.select()).all()
            opened.set()
            done.wait(30)

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(slow_request)
        assert opened.wait(30)
        try:
            with worker.cache_manager.request():
                with worker.engine.begin() as connection:
                    put(connection, "Back", "new")
                    del PageText(worker, "Back").text
                assert other.read("Back") == "new"
        finally:
            done.set()
        running.result()


@pytest.mark.on("sqlite-memory")
def test_case_14_transactions_that_begin_and_end_at_once(worker: Worker) -> None:
    """Two threads of a request change the list of its transactions at the same moment: none is
    lost, for a `del` that does not find its transaction leaves an old value behind."""
    scope = Scope(request=True)
    manager = worker.cache_manager
    old, ending, beginning = (Transaction(manager, scope, None, None) for _ in range(3))
    scope.add(old)
    scope.add(ending)
    other_thread = threading.Thread(target=lambda: scope.add(beginning))

    def interrupt(frame: Any, kind: str, argument: Any) -> Any:
        """While one thread goes over the list, the other is given the processor."""
        if frame.f_code.co_name == "<genexpr>" and other_thread.ident is None:
            other_thread.start()
            other_thread.join(10)
        return interrupt

    traced = sys.gettrace()
    sys.settrace(interrupt)
    try:
        scope.remove(ending)
    finally:
        sys.settrace(traced)
    if other_thread.ident is None:  # there was no such moment
        other_thread.start()
        other_thread.join(10)
    assert set(scope.transactions(manager)) == {old, beginning}
