"""Which entries leave a full store, and that nothing else is kept of those that left."""

from __future__ import annotations

import gc
import weakref

import pytest

from coherent_cache.entry import Entry, Slot
from coherent_cache.ledger import News
from coherent_cache.store import Store


class Value:
    """Something whose end can be seen."""


def put(store: Store, key: str, value: object = None, *, variant: object = None) -> None:
    slot = Slot(key, variant)
    assert store.publish(slot, Entry(slot, value, store.label))


def has(store: Store, key: str) -> bool:
    """Whether it is there, without a read of it."""
    return key in store.entries


def invalidate(store: Store, *keys: str) -> None:
    store.apply(News(None, frozenset(keys)))


def test_a_scan_leaves_what_is_in_use() -> None:
    store = Store(100)
    used = [f"used {number}" for number in range(50)]
    for key in used:
        put(store, key)
        store.get(Slot(key))
    for number in range(10_000):
        put(store, f"scanned {number}")
    assert [key for key in used if not has(store, key)] == []
    assert len(store) == 100


def test_what_is_read_no_more_leaves_too() -> None:
    store = Store(100)
    for number in range(50):
        put(store, f"used once {number}")
        store.get(Slot(f"used once {number}"))
    for number in range(1000):
        key = f"used now {number % 80}"
        if store.get(Slot(key)) is None:
            put(store, key)
        put(store, f"scanned {number}")
    # Ten of them have room beside the eighty and the scan's own tenth, and a few more instead of
    # keys that the ghost has forgotten: it keeps hashes, which differ from run to run.
    assert sum(has(store, f"used once {number}") for number in range(50)) <= 25
    assert sum(has(store, f"used now {number}") for number in range(80)) >= 60


def test_what_comes_back_stays_longer() -> None:
    """It left the small queue a moment ago: that it is asked for again is what tells it from a
    scan."""
    store = Store(20)
    for number in range(21):
        put(store, f"k{number}")
    assert not has(store, "k0")
    put(store, "k0")
    for number in range(100):
        put(store, f"scanned {number}")
    assert has(store, "k0")


def test_what_was_invalidated_while_in_use_comes_back_to_its_place() -> None:
    store = Store(20)
    put(store, "hot")
    store.get(Slot("hot"))
    invalidate(store, "hot")
    put(store, "hot")
    for number in range(100):
        put(store, f"scanned {number}")
    assert has(store, "hot")


@pytest.mark.parametrize("ends", ["evicted", "invalidated", "replaced", "cleared"])
def test_nothing_is_kept_of_what_left(ends: str) -> None:
    store = Store(10)
    value = Value()
    left = weakref.ref(value)
    put(store, "k", value)
    del value
    if ends == "evicted":
        for number in range(20):
            put(store, f"other {number}")
    elif ends == "replaced":
        put(store, "k")
    elif ends == "cleared":
        store.clear()
    else:
        invalidate(store, "k")
    # Its place in the queue goes when it is its turn, or when there are more such than living.
    for number in range(200):
        put(store, f"another {number % 20}")
    gc.collect()
    assert left() is None


def test_the_queues_do_not_grow_by_invalidations() -> None:
    store = Store(1000)
    put(store, "stays")
    for _ in range(5000):
        put(store, "k")
        invalidate(store, "k")
    queues = store._eviction
    assert len(queues._small) + len(queues._main) < 300
    assert (len(store), has(store, "stays")) == (1, True)


def test_variants_of_a_key() -> None:
    one, two, three = object(), object(), object()
    store = Store(100)
    for variant in (one, two, three):
        put(store, "k", id(variant), variant=variant)
    put(store, "k", "new", variant=two)
    found = [store.get(Slot("k", variant)) for variant in (one, two, three)]
    assert [entry and entry.value for entry in found] == [id(one), "new", id(three)]
    assert store.get(Slot("k")) is None
    invalidate(store, "k")
    assert [store.get(Slot("k", variant)) for variant in (one, two, three)] == [None] * 3
    assert len(store) == 0


def test_evicted_variants_leave_the_others() -> None:
    one, two = object(), object()
    store = Store(2)
    put(store, "k", variant=one)
    put(store, "k", variant=two)
    store.get(Slot("k", two))
    put(store, "other")
    assert store.get(Slot("k", one)) is None
    assert store.get(Slot("k", two)) is not None


def test_dependents_are_dropped_once_and_forgotten() -> None:
    store = Store(100)
    slot = Slot("sum")
    store.publish(slot, Entry(slot, 3, store.label, others=frozenset(("a", "b"))))
    invalidate(store, "a", "b")
    assert (len(store), store._dependents) == (0, {})
    store.publish(slot, Entry(slot, 3, store.label, others=frozenset(("a", "b"))))
    invalidate(store, "sum")
    assert (len(store), store._dependents) == (0, {})
