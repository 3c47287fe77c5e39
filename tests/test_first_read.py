"""The first read of a value that the process knows: the short way, and when it is not to be
taken."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import update
from sqlalchemy.orm import Session

from coherent_cache import cached, set_manager_resolver
from coherent_cache.scope import Scope
from coherent_cache.transaction import Transaction

from .workers import PageText, Worker, page, put

pytestmark = pytest.mark.on("sqlite-wal")  # the database plays no part in it


@pytest.fixture
def worker(worker: Worker) -> Worker:
    """One that knows the texts of some pages."""
    for name in ("Front", "Middle", "Back"):
        worker.write(name, "old")
    for name in ("Front", "Middle", "Back"):
        assert worker.read(name) == "old"
    assert worker.wiki.names == {"Front", "Middle", "Back"}
    return worker


@contextmanager
def only_the_short_way(worker: Worker) -> Iterator[None]:
    manager: Any = worker.cache_manager
    loader, manager._loader = manager._loader, None
    try:
        yield
    finally:
        manager._loader = loader


def begin_to_read(worker: Worker) -> None:
    """Look at the ledger, and let the text of a page be memorised."""
    front = PageText(worker, "Front")
    assert [front.text, front.text] == ["old", "old"]


def elsewhere(function: Callable[[], object]) -> None:
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()


def test_beside_a_transaction_and_a_session_that_hide_nothing(worker: Worker) -> None:
    with (
        worker.cache_manager.request(),
        Session(worker.engine) as session,
        worker.engine.begin() as connection,
    ):
        begin_to_read(worker)
        session.connection()
        put(connection, "Front", "new")
        with only_the_short_way(worker):
            assert PageText(worker, "Middle").text == "old"
            assert PageText(worker, "Back").text == "old"
            assert worker.wiki.names == {"Front", "Middle", "Back"}


def test_after_a_del_in_a_transaction(worker: Worker) -> None:
    with worker.cache_manager.request(), worker.cache_manager.begin() as connection:
        begin_to_read(worker)
        put(connection, "Back", "new")
        del PageText(worker, "Back").text, worker.wiki.names
        begin_to_read(worker)
        assert PageText(worker, "Back").text == "new"


def test_a_private_value_beside_one_of_the_store(worker: Worker) -> None:
    """A request reads a value in a transaction that has written; then another request loads it."""
    worker.write("Back", "older")
    with worker.cache_manager.request(), worker.cache_manager.begin() as connection:
        begin_to_read(worker)
        put(connection, "Back", "mine")
        assert PageText(worker, "Back").text == "mine"
        elsewhere(lambda: worker.read("Back"))
        assert PageText(worker, "Back").text == "mine"


def test_after_a_del_that_waits_with_a_session(worker: Worker) -> None:
    with worker.cache_manager.request(), Session(worker.engine) as session, session.begin():
        begin_to_read(worker)
        del PageText(worker, "Back").text
        assert PageText(worker, "Back").text == "old"
        session.execute(update(page).where(page.c.name == "Back").values(text="new"))
        assert PageText(worker, "Back").text == "new"


def test_after_a_del_before_the_session_began(worker: Worker) -> None:
    with worker.cache_manager.request(), Session(worker.engine) as session:
        session.begin().rollback()
        del PageText(worker, "Back").text
        begin_to_read(worker)
        elsewhere(lambda: worker.read("Back"))
        session.begin()
        assert PageText(worker, "Back").text == "old"
        session.execute(update(page).where(page.c.name == "Back").values(text="new"))
        assert PageText(worker, "Back").text == "new"


def test_a_transaction_that_hides_comes_into_a_scope(worker: Worker) -> None:
    core = worker.cache_manager.core
    scope = Scope()
    transaction: Any = Transaction(core, scope, None, None)  # type: ignore[arg-type]
    before = core.unrest
    scope.add(transaction)
    assert core.unrest is before
    scope.remove(transaction)
    transaction.invalidate(["key"])
    before = core.unrest
    scope.add(transaction)
    assert core.unrest is not before


def test_after_a_new_beginning(worker: Worker, other: Worker) -> None:
    with worker.cache_manager.request():
        begin_to_read(worker)
        other.write("Back", "new")
        worker.cache_manager.reset_metadata()
        assert PageText(worker, "Back").text == "new"


def test_after_an_own_commit(worker: Worker, other: Worker) -> None:
    """The view has to look at the ledger again, though it goes on with what it has."""
    with worker.cache_manager.request():
        begin_to_read(worker)
        other.write("Back", "new")
        del PageText(worker, "Middle").text
        begin_to_read(worker)
        assert PageText(worker, "Back").text == "new"


def test_the_applications_own_rule(worker: Worker, other: Worker) -> None:
    """It comes before what the instance names, also if it is set in the middle of a request."""
    with worker.cache_manager.request():
        begin_to_read(worker)
        other.write("Back", "new")
        other.write("Fourth", "new")
        set_manager_resolver(lambda instance: other.cache_manager)
        try:
            assert PageText(worker, "Back").text == "new"
            assert "Fourth" in worker.wiki.names
        finally:
            set_manager_resolver(None)
        assert PageText(worker, "Back").text == "old"
        assert "Fourth" not in worker.wiki.names


def test_instances_of_two_managers(worker: Worker, other: Worker) -> None:
    """That of the open view is the one that has read the attribute before."""
    with worker.cache_manager.request():
        begin_to_read(worker)
        other.write("Back", "new")
        assert PageText(worker, "Back").text == "old"
        assert PageText(other, "Back").text == "new"


def test_classes_in_turn(worker: Worker) -> None:
    """A subclass has values of its own; that of the class that was read last is at hand."""

    class Short(PageText):
        pass

    assert Short(worker, "Back").text == "old"
    short: Any = worker.cache_manager.core.store.entries["tests.workers.PageText.text['Back']"]
    short.value = "short"  # the newest variant comes first
    with worker.cache_manager.request():
        begin_to_read(worker)
        assert Short(worker, "Middle").text == "old"
        assert PageText(worker, "Front").text == "old"
        assert Short(worker, "Back").text == "short"
        assert PageText(worker, "Back").text == "old"
        assert [Short(worker, "Front").text, PageText(worker, "Middle").text] == ["old", "old"]


class _Interrupted(dict[Any, Any]):
    """Values of a view: while the next one is put in, something happens, before or after it."""

    def __init__(self, values: dict[Any, Any], before: Callable[[], None] | None, after: Any):
        super().__init__(values)
        self.before, self.after = before, after

    def setdefault(self, slot: Any, entry: Any = None, /) -> Any:
        before, self.before = self.before, None
        if before is not None:
            before()
        found = super().setdefault(slot, entry)
        after, self.after = self.after, None
        if after is not None:
            after()
        return found


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("attribute", ["text", "single"])
def test_invalidated_while_it_is_taken_over(worker: Worker, when: str, attribute: str) -> None:
    """Another thread of the request writes, invalidates and commits, between that the value is
    found in the store and that it is kept, or between that and the memo."""

    class Page(PageText):
        env = worker

        def __init__(self, name: str) -> None:
            super().__init__(worker, name)

        @cached
        def single(self) -> str | None:
            return PageText(worker, "Back").text

    assert [Page(name).text for name in ("Front", "Back")] == ["old", "old"]
    assert Page("Back").single == "old"
    with worker.cache_manager.request() as view:
        front, back = Page("Front"), Page("Back")
        assert [front.text, front.text] == ["old", "old"]

        def write() -> None:
            worker.write("Back", "new")
            del Page("Back").single

        happens = {"before": None, "after": None, when: write}
        view.values = _Interrupted(view.values, **happens)
        assert getattr(back, attribute) == "old"
        assert getattr(back, attribute) == "new"
