"""The store by itself: what it remembers of drops, for values that are still being computed, and
what interrupts it."""

from __future__ import annotations

import itertools
import linecache
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from coherent_cache import eviction as eviction_module
from coherent_cache import store as store_module
from coherent_cache.entry import Entry, Slot, Waiting
from coherent_cache.errors import CacheError
from coherent_cache.ledger import News
from coherent_cache.store import Store


def test_what_was_dropped_before_the_memory_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of three drops two are remembered: what was labelled before the forgotten one cannot be
    judged, what was labelled at it or later can."""
    monkeypatch.setattr(store_module, "_REMEMBERED_DROPS", 2)
    store = Store(10)
    for key in ("one", "two", "three"):
        store.apply(News(None, frozenset({key})))

    def is_kept(key: str, label: int) -> bool:
        slot = Slot(key)
        kept = store.publish(slot, Entry(slot, "value", label))
        assert (store.get(slot) is not None) is kept
        return kept

    assert [is_kept("another", label) for label in (0, 1)] == [False, True]
    assert [is_kept("two", label) for label in (1, 2)] == [False, True]
    assert [is_kept("three", label) for label in (2, 3)] == [False, True]


def test_an_entry_has_no_empty_set_of_its_own() -> None:
    """Python makes one for each `frozenset(())` of a generator: more than all the rest of it."""
    one, two = (
        Entry(Slot(key), 1, 0, others=frozenset(()), owners=frozenset(each for each in ()))
        for key in "ab"
    )
    assert one.owners is two.owners
    assert one.others is None


# Interrupted


def interrupted(nth: int, change: Callable[[], object], handler: Callable[[], object]) -> bool:
    """Run *change*, and *handler* in the middle of it, as a signal's: before the *nth* line that is
    executed of the store's code.  Return whether there was one."""
    count = itertools.count(1)

    def trace(frame: Any, event: str, argument: Any) -> Any:
        if frame.f_code.co_filename not in (store_module.__file__, eviction_module.__file__):
            return None
        # No signal is handled where a block has ended and the lock is not released yet.
        line = linecache.getline(frame.f_code.co_filename, frame.f_lineno)
        if event == "line" and not line.lstrip().startswith("with ") and next(count) == nth:
            sys.settrace(None)
            handler()
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        change()
    finally:
        sys.settrace(before)
    return next(count) > nth


def is_whole(store: Store) -> None:
    """Nothing was left half-done."""
    found = [entry for key in store.entries for entry in store._variants(key)]
    assert len(found) == len(store) == sum(store._eviction._live.values())
    assert all(entry.queue for entry in found)
    assert store.size_bytes == sum(entry.size for entry in found)
    assert set(store._dependents) == {key for entry in found for key in entry.others or ()}
    assert not store._to_drop
    assert not store._changing


@pytest.mark.parametrize("change", ["publish", "replace", "apply", "clear", "evict", "take"])
@pytest.mark.parametrize("handler", ["evict", "clear", "publish", "take", "apply"])
def test_in_the_middle_of_a_change(change: str, handler: str) -> None:
    """What a signal's handler does there is done afterwards, or not at all, or says so."""
    for nth in itertools.count(1):
        store = Store(3, None, lambda value: 2)
        kept = Slot("kept")
        for slot in (Slot("a"), Slot("b"), kept):
            store.publish(slot, Entry(slot, "old", 0, others=frozenset({"x"})))
        waits = Slot("kept", Waiting("shared"))
        store.publish(waits, Entry(waits, b"old", 0))
        new = Slot("kept" if change == "replace" else "new")
        raised: list[CacheError] = []

        def do(what: str, slot: Slot, store: Any = store, raised: Any = raised) -> None:
            if what in ("publish", "replace"):
                store.publish(slot, Entry(slot, "new", store.label, others=frozenset({"y"})))
            elif what == "apply":
                try:
                    store.apply(News(None, frozenset({"kept", "x"})))
                except CacheError as error:
                    raised.append(error)
            elif what == "clear":
                store.clear()
            elif what == "evict":
                store.evict(Slot("kept"))
            else:
                store.take_waiting("kept", "shared")

        label = store.label
        reached = interrupted(nth, partial(do, change, new), partial(do, handler, Slot("other")))
        is_whole(store)
        if handler == "apply" and reached:
            assert raised or store.label > label
        if handler == "clear" and reached:
            assert store.label > label
            assert len(store) <= 1  # what was published after it, if it came that early
        if handler == "evict" and change != "replace" and reached:
            assert store.get(kept) is None
        if not reached:
            break
    assert nth > 3


class TimeLimitError(Exception):
    pass


@pytest.mark.parametrize("change", ["publish", "apply", "clear", "take"])
def test_a_change_that_is_broken_off(change: str) -> None:
    """By what a signal's handler raises, as job queues do at a time limit: what was left half-done
    would be found by readers, and by no invalidation."""

    def limit() -> None:
        raise TimeLimitError

    changes: dict[str, Callable[[Store], object]] = {
        "publish": lambda store: store.publish(Slot("c"), Entry(Slot("c"), "new", 0)),
        "apply": lambda store: store.apply(News(None, frozenset({"a", "b", "x"}))),
        "clear": lambda store: store.clear(),
        "take": lambda store: store.take_waiting("a", "shared"),
    }
    nths = iter(itertools.count(1))
    reached = True
    while reached:
        store = Store(3)
        for slot in (Slot("a"), Slot("b"), Slot("a", Waiting("shared"))):
            store.publish(slot, Entry(slot, "old", 0, others=frozenset({"x"})))
        reached = False
        try:
            interrupted(next(nths), partial(changes[change], store), limit)
        except TimeLimitError:
            reached = True
        # The position did not move: the news are read again.
        store.apply(News(None, frozenset({"a", "b"})))
        is_whole(store)
        assert store.get(Slot("a")) is None
        slot = Slot("d")
        assert store.publish(slot, Entry(slot, "new", store.label))
        is_whole(store)
