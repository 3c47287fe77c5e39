"""The store by itself: what it remembers of drops, for values that are still being computed."""

from __future__ import annotations

import pytest

from coherent_cache import store as store_module
from coherent_cache.entry import Entry, Slot
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
