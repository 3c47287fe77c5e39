"""A key's generation, the value it had under one, and dropping a value without invalidating it."""

from __future__ import annotations

import pytest

from coherent_cache import ConfigurationError, NotKeptError

from ..workers import PageText, Worker
from .shelf import Shelf


def test_the_value_under_a_generation(worker: Worker) -> None:
    one = Worker(worker.database, tier=Shelf())
    manager = one.cache_manager
    seen = {}
    for text in ("first", "second", "third"):
        one.write("a", text)
        assert one.read("a") == text
        seen[manager.generation(PageText(one, "a"), "text")] = text
    assert len(seen) == 3
    for generation, text in seen.items():
        assert manager.recall(PageText(one, "a"), "text", generation=generation) == text
    with pytest.raises(NotKeptError) as error:
        manager.recall(PageText(one, "b"), "text", generation=generation)
    assert error.value.generation == generation


def test_without_a_tier_the_process_has_the_current_one(worker: Worker) -> None:
    manager = worker.cache_manager
    assert manager.get("k", lambda: 1) == 1
    generation = manager.generation("k")
    assert generation is not None
    assert manager.recall("k", generation=generation) == 1
    manager.invalidate("k")
    with pytest.raises(NotKeptError):
        manager.recall("k", generation=generation)
    now = manager.generation("k")
    assert now not in (None, generation)
    with pytest.raises(LookupError):
        manager.recall("k", generation=now)


def test_an_old_value_is_not_the_new_generations(worker: Worker, other: Worker) -> None:
    """The process has not looked at the ledger since: it holds what the key had before."""
    manager = worker.cache_manager
    assert manager.get("k", lambda: 1) == 1
    other.cache_manager.invalidate("k")
    generation = manager.generation("k")
    assert generation is not None
    with pytest.raises(NotKeptError):
        manager.recall("k", generation=generation)


def test_what_is_evicted_is_read_again_and_nobody_is_told(worker: Worker, other: Worker) -> None:
    for name in "ab":
        worker.read(name)
        other.read(name)
    before = (worker.cache_manager.statistics.loads, other.cache_manager.statistics.loads)
    with worker.cache_manager.request():
        assert PageText(worker, "a").text is None
        worker.cache_manager.evict(PageText(worker, "a"), "text")
        assert PageText(worker, "a").text is None
    assert worker.cache_manager.statistics.loads == before[0]
    for name in "ab":
        worker.read(name)
        other.read(name)
    after = (worker.cache_manager.statistics.loads, other.cache_manager.statistics.loads)
    assert after == (before[0] + 1, before[1])
    worker.cache_manager.evict("no such key")
    with pytest.raises(ConfigurationError):
        worker.cache_manager.evict(worker, "wiki")
    worker.cache_manager.evict()
    assert worker.cache_manager.statistics.entries == 0
