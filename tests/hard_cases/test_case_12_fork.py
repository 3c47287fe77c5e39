"""Hard case 12: a worker forks after it has used its manager, as a preloading web server does.

The parent has values in memory, a view, a transaction and the ledger's connections open, and
maybe a thread that holds one of our locks at just that moment (``tests/schedules``).  The child
starts over with connections of its own; the parent goes on as if nothing had happened.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from ..children import fork
from ..workers import PageText, Worker, page, put


def in_database(worker: Worker, name: str = "Front") -> str | None:
    with worker.engine.connect() as connection:
        return connection.scalar(select(page.c.text).where(page.c.name == name))


@pytest.mark.parametrize("clean_exit", [False, True])
def test_case_12_warm_store(worker: Worker, clean_exit: bool) -> None:
    """Both have the value and both hear of what the other writes."""
    worker.write("Front", "old")
    assert worker.read("Front") == "old"
    del PageText(worker, "Front").text  # the connection for writing is open as well

    def child() -> Any:
        first = worker.read("Front")
        worker.write("Front", "the child's")
        return first, worker.read("Front")

    assert fork(child, clean_exit=clean_exit).join() == ("old", "the child's")
    assert worker.read("Front") == "the child's"
    worker.write("Front", "the parent's")

    def second_child() -> Any:
        return worker.read("Front")

    assert fork(second_child, clean_exit=clean_exit).join() == "the parent's"
    assert worker.read("Front") == "the parent's"
    with worker.engine.connect() as connection:  # it was not closed by a child
        assert connection.scalar(select(page.c.text)) == "the parent's"


@pytest.mark.parametrize("how", ["manager", "connection", "session"])
def test_case_12_open_transaction(worker: Worker, other: Worker, how: str) -> None:
    """The child is not in the parent's transaction: it neither reads through it nor waits for its
    COMMIT, which the parent makes undisturbed."""
    worker.write("Front", "old")
    assert worker.read("Front") == other.read("Front") == "old"
    if how == "manager":
        block: Any = worker.cache_manager.begin()
    elif how == "connection":
        block = worker.engine.begin()
    else:
        block = Session(worker.engine)
    with block as opened:
        opened.execute(page.update().values(text="the parent's"))
        del PageText(worker, "Front").text
        assert PageText(worker, "Front").text == "the parent's"
        assert other.read("Other") is None

        def child() -> Any:
            before = PageText(worker, "Front").text
            if not worker.database.is_sqlite:  # there the parent has the one lock for writing
                del PageText(worker, "Other").text  # at once, not with the parent's commit
            return before, in_database(worker)

        assert fork(child).join() == ("old", "old")
        assert other.read("Front") == "old"
        assert PageText(worker, "Front").text == "the parent's"
        if how == "session":
            opened.commit()
    assert worker.read("Front") == other.read("Front") == in_database(other) == "the parent's"


def test_case_12_del_in_the_child_while_the_parent_is_in_a_transaction(
    worker: Worker, other: Worker
) -> None:
    """An invalidation of the child's that waited for the parent's COMMIT would be lost."""
    worker.write("Back", "old")
    assert other.read("Back") == "old"
    with worker.engine.connect() as parents:
        parents.execute(select(page)).all()
        worker.wiki.names  # noqa: B018

        def child() -> None:
            with worker.engine.begin() as connection:
                put(connection, "Back", "first")
                del PageText(worker, "Back").text

        fork(child).join()
        assert other.read("Back") == "first"
    assert worker.read("Back") == other.read("Back") == "first"


def test_case_12_view(worker: Worker, other: Worker) -> None:
    """The view that is open belongs to the parent's request: the child sees what is new, in a
    request of its own and outside of any."""
    worker.write("Front", "old")
    with worker.cache_manager.request():
        assert PageText(worker, "Front").text == "old"
        other.write("Front", "new")

        def child() -> Any:
            return PageText(worker, "Front").text, worker.read("Front")

        assert fork(child).join() == ("new", "new")
        assert PageText(worker, "Front").text == "old"
    assert worker.read("Front") == "new"


def test_case_12_load_under_way(worker: Worker) -> None:
    """Another thread is loading at the moment of the fork: in the child that load never ends, and
    nobody there waits for it."""
    worker.write("Front", "text")
    loading, forked = threading.Event(), threading.Event()

    def wait() -> None:
        loading.set()
        forked.wait(30)

    worker.wiki.before = wait

    def child() -> Any:
        worker.wiki.before = lambda: None
        return worker.wiki.names

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(lambda: worker.wiki.names)
        assert loading.wait(30)
        try:
            made = fork(child)
        finally:
            forked.set()
        assert made.join() == {"Front"}
        assert running.result() == {"Front"}


def test_case_12_inside_a_retriever(worker: Worker) -> None:
    """The child is not in the load that its parent is in the middle of: it may read that very
    value, and what it reads is not what the parent's value depends on."""
    worker.write("Front", "text")
    answers: list[Any] = []

    def child() -> Any:
        worker.wiki.before = lambda: None
        return worker.wiki.names, worker.wiki.names, worker.read("Front")

    def forked() -> None:
        answers.append(fork(child).join())

    worker.wiki.before = forked
    assert worker.wiki.names == {"Front"}
    assert answers == [({"Front"}, {"Front"}, "text")]
