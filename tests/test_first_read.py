"""The first read of a value that the process knows: the short way, and when it is not to be
taken."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import update
from sqlalchemy.orm import Session

from coherent_cache import cached, descriptors, resolve, set_manager_resolver
from coherent_cache.entry import Entry, Slot
from coherent_cache.ledger import News
from coherent_cache.scope import Scope
from coherent_cache.store import Store
from coherent_cache.transaction import Transaction

from .workers import PageText, Worker, page, put

pytestmark = pytest.mark.on("sqlite-wal")  # the database plays no part in it


ONE_OF_SEVERAL = pytest.mark.parametrize("worker", [False], indirect=True)
THE_ONLY_ONE = pytest.mark.parametrize("worker", [True], indirect=True)


@pytest.fixture(params=[False, True], ids=["one of several", "the only one"])
def worker(worker: Worker, request: pytest.FixtureRequest) -> Worker:
    """One that knows the texts of some pages, with or without other managers in the process."""
    core = worker.cache_manager.core
    PageText.text._forget_slots()  # type: ignore[attr-defined]  # the managers of other tests
    core.is_only = request.param
    for name in ("Front", "Middle", "Back"):
        worker.write(name, "old")
    for name in ("Front", "Middle", "Back"):
        assert worker.read(name) == "old"
    assert worker.wiki.names == {"Front", "Middle", "Back"}
    with worker.cache_manager.request():  # as all but the first request find them
        begin_to_read(worker)
        assert [PageText(worker, name).text for name in ("Middle", "Back")] == ["old", "old"]
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


@ONE_OF_SEVERAL
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


@ONE_OF_SEVERAL
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

    assert [Short(worker, "Back").text for _ in range(2)] == ["old", "old"]
    short: Any = worker.cache_manager.core.store.entries["tests.workers.PageText.text['Back']"]
    short.value = "short"  # the newest variant comes first
    with worker.cache_manager.request():
        begin_to_read(worker)
        assert Short(worker, "Middle").text == "old"
        assert PageText(worker, "Front").text == "old"
        assert Short(worker, "Back").text == "short"
        assert PageText(worker, "Back").text == "old"
        assert [Short(worker, "Front").text, PageText(worker, "Middle").text] == ["old", "old"]
    with worker.cache_manager.request():
        begin_to_read(worker)
        assert PageText(worker, "Back").text == "old"


def test_a_commit_while_the_view_looks(
    worker: Worker, other: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another thread of the request commits when the ledger was looked at and the view was not
    yet told that nothing stands between it and the store."""
    core = worker.cache_manager.core
    check = core.check

    def looked(view: Any, scope: Any) -> None:
        check(view, scope)
        view.uncheck()

    with worker.cache_manager.request():
        with monkeypatch.context() as patch:
            patch.setattr(core, "check", looked)
            assert PageText(worker, "Front").text == "old"
        other.write("Back", "new")
        assert PageText(worker, "Back").text == "new"


def test_what_others_committed_and_then_the_first_read(worker: Worker, other: Worker) -> None:
    for text in ("new", "newer", "newest"):
        other.write("Back", text)
        for _ in range(3):
            with worker.cache_manager.request():
                begin_to_read(worker)
                assert PageText(worker, "Back").text == text


def test_what_is_counted(worker: Worker) -> None:
    """Each value once that was there, however it was found."""
    worker.cache_manager.evict(PageText(worker, "Middle"), "text")
    with worker.cache_manager.request() as view:
        begin_to_read(worker)
        assert (view.hits, view.misses) == (1, 0)
        for _ in range(3):
            assert [PageText(worker, name).text for name in ("Front", "Back")] == ["old", "old"]
            assert (view.hits, view.misses) == (2, 0)
        assert PageText(worker, "Middle").text == "old"
        assert (view.hits, view.misses) == (2, 1)
        del PageText(worker, "Back").text
        assert (view.hits, view.misses) == (2, 1)
        assert PageText(worker, "Back").text == "old"
        assert (view.hits, view.misses) == (2, 2)
        worker.cache_manager.reset_metadata()
        assert (view.hits, view.misses) == (2, 2)
        begin_to_read(worker)
        assert (view.hits, view.misses) == (3, 2)


def slots_of_pages() -> dict[Any, Slot]:
    return PageText.text.last[0][1]  # type: ignore[attr-defined, no-any-return]


@THE_ONLY_ONE
def test_the_store_is_not_asked(worker: Worker) -> None:
    store: Any = worker.cache_manager.core.store
    with worker.cache_manager.request():
        begin_to_read(worker)
        entries, store.entries = store.entries, None
        try:
            assert PageText(worker, "Back").text == "old"
        finally:
            store.entries = entries


@THE_ONLY_ONE
@pytest.mark.parametrize("how", ["news", "clear"])
def test_a_slot_that_was_not_told(worker: Worker, other: Worker, how: str) -> None:
    """An attribute has forgotten a slot and made it anew, a thread has the old one: one of the two
    is not told when the value is dropped."""
    store = worker.cache_manager.core.store
    slot = slots_of_pages()["Back"]
    entry = slot.entry
    assert entry is not None
    store.place(Slot(slot.key, slot.variant), entry)
    if how == "clear":
        store.clear()
    other.write("Back", "new")
    with worker.cache_manager.request():
        begin_to_read(worker)
        if how == "news":
            assert slot.entry is entry
        assert PageText(worker, "Back").text == "new"


@THE_ONLY_ONE
def test_slots_that_nobody_finds_are_not_kept(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many key parts there are: neither they keep values alive nor values them."""
    monkeypatch.setattr(descriptors, "_REMEMBERED_PARTS", 2)
    PageText.text._forget_slots()  # type: ignore[attr-defined]
    for _ in range(3):
        with worker.cache_manager.request():
            begin_to_read(worker)
            for name in ("Front", "Middle", "Back"):
                assert PageText(worker, name).text == "old"
    found = slots_of_pages()
    variant = found["Back"].variant  # the slots of the fixture were another's
    entries = worker.cache_manager.core.store.most_used()
    places = [each.place for each in entries if each.variant is variant]
    assert len(places) == 3
    assert {id(place) for place in places if place is not None} <= set(map(id, found.values()))


class _Value:
    """Something whose end can be seen."""


def placed(store: Store, slot: Slot) -> weakref.ref[_Value]:
    value = _Value()
    store.publish(slot, Entry(slot, value, store.label))
    store.place(slot, store.entries[slot.key])
    assert slot.entry is store.entries[slot.key]
    return weakref.ref(value)


@pytest.mark.parametrize(
    "leaves",
    [
        lambda store, slot: store.apply(News(None, frozenset((slot.key,)))),
        lambda store, slot: store.evict(slot),
        lambda store, slot: store.clear(),
        lambda store, slot: store.after_fork(),
        lambda store, slot: store.publish(slot, Entry(slot, "another", store.label)),
        lambda store, slot: store.publish(Slot("k2"), Entry(Slot("k2"), "another", store.label)),
    ],
    ids=["news", "evict", "clear", "fork", "replaced", "evicted"],
)
def test_what_leaves_is_not_kept(leaves: Callable[[Store, Slot], object]) -> None:
    store, slot = Store(1), Slot("k")
    value = placed(store, slot)
    gc.collect()
    gc.disable()
    try:
        leaves(store, slot)
        assert slot.entry is None
        del store  # its queue still has what was removed from it
        assert value() is None
    finally:
        gc.enable()


def test_dropped_while_it_is_placed() -> None:
    store = Store(10)

    class Dropping(Slot):
        """The entry is dropped when it was told of its slot, and the slot not of its entry."""

        __slots__ = ("held",)

        @property
        def entry(self) -> Entry | None:  # type: ignore[override]  # pyright: ignore
            return self.held  # type: ignore[no-any-return]

        @entry.setter
        def entry(self, entry: Entry | None) -> None:
            if entry is not None:
                store.apply(News(None, frozenset((self.key,))))
            self.held = entry

    slot = Dropping("k")
    entry = Entry(slot, "value", store.label)
    assert store.publish(slot, entry)
    store.place(slot, entry)
    assert slot.entry is None
    assert entry.place is None


def test_the_only_manager(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolve, "_cores", [])
    one = Worker(worker.database).cache_manager
    assert one.core.is_only
    try:
        set_manager_resolver(lambda instance: None)
        assert not one.core.is_only
    finally:
        set_manager_resolver(None)
    assert one.core.is_only
    two = Worker(worker.database).cache_manager
    assert not one.core.is_only
    assert not two.core.is_only
    two.close()
    del two
    gc.collect()
    set_manager_resolver(None)
    assert not one.core.is_only  # some of its instances may be left
    one.close()


def test_two_first_managers_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolve, "_cores", [])
    told: list[bool] = []

    class First:
        """Another is noted, and tells this one, between the question and its answer."""

        def __setattr__(self, name: str, is_only: bool) -> None:
            if not told:
                told.append(False)
                resolve.note_manager(other)
            told.append(is_only)

    first: Any = First()
    other: Any = First()
    resolve.note_manager(first)
    assert told[-1] is False


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
