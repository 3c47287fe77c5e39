"""G9: in a process, concurrent misses of one key make one retriever call."""

from __future__ import annotations

import threading
import time

import pytest

from ..workers import PageText, Worker
from .helpers import SECONDS, Gate, elsewhere, in_thread


def _loads_under_way(worker: Worker) -> bool:
    return bool(worker.cache_manager._loader._flights._flights)


def test_g09_many_ask_one_computes(worker: Worker) -> None:
    gate = Gate()
    worker.wiki.before = gate
    asked = [in_thread(lambda: worker.wiki.names) for _ in range(8)]
    gate.wait()
    time.sleep(0.1)  # the others arrive
    gate.open()
    assert {future.result(SECONDS) for future in asked} == {frozenset()}
    assert worker.wiki.calls == 1


def test_g09_other_keys_are_not_held_up(worker: Worker, other: Worker) -> None:
    other.write("Front", "old")
    gate = Gate()
    worker.wiki.before = gate
    slow = in_thread(lambda: worker.wiki.names)
    gate.wait()
    assert elsewhere(lambda: worker.read("Front")) == "old"
    other.write("Front", "new")
    assert elsewhere(lambda: worker.read("Front")) == "new"
    assert not slow.done()
    gate.open()
    assert slow.result(SECONDS) == {"Front"}


def test_g09_an_exception_reaches_those_who_asked(worker: Worker) -> None:
    gate = Gate()

    def fail() -> None:
        gate()
        raise KeyError("out of order")

    worker.wiki.before = fail
    asked = [in_thread(lambda: worker.wiki.names) for _ in range(4)]
    gate.wait()
    time.sleep(0.1)
    gate.open()
    for future in asked:
        with pytest.raises(KeyError, match="out of order"):
            future.result(SECONDS)
    assert worker.wiki.calls == 1
    worker.wiki.before = lambda: None
    assert worker.wiki.names == frozenset()  # it was not cached
    assert worker.wiki.calls == 2
    assert not _loads_under_way(worker)


def test_g09_nobody_is_handed_an_older_value(worker: Worker, other: Worker) -> None:
    """
    early    computes; its data is read, but it is not ready
    other    commits
    late     begins a request: it looks at the ledger, and must not wait for what `early` brings
    """
    other.write("Front", "old")
    if worker.database.kind == "sqlite-journal":
        pytest.skip("there a retriever that still reads lets nobody commit")
    gate = Gate()
    worker.wiki.after = gate
    early = in_thread(lambda: worker.wiki.names)
    gate.wait()
    worker.wiki.after = lambda: None
    other.write("Back", "new")
    assert elsewhere(lambda: worker.wiki.names) == {"Front", "Back"}
    gate.open()
    assert early.result(SECONDS) in ({"Front"}, {"Front", "Back"})
    assert elsewhere(lambda: worker.wiki.names) == {"Front", "Back"}
    assert not _loads_under_way(worker)


def test_g09_requests_that_ask_at_once(worker: Worker, other: Worker) -> None:
    """After each commit each of several requests reads the new value, by one retriever call."""
    names = 4
    barrier = threading.Barrier(names)

    def ask() -> str | None:
        with worker.cache_manager.request():
            barrier.wait(SECONDS)
            return PageText(worker, "Front").text

    for round_ in range(5):
        other.write("Front", str(round_))
        before = worker.cache_manager.statistics.loads
        asked = [in_thread(ask) for _ in range(names)]
        assert {future.result(SECONDS) for future in asked} == {str(round_)}
        assert worker.cache_manager.statistics.loads == before + 1
