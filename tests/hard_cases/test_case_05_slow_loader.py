"""Case 5: the slow loader.

A retriever has read its data and takes its time.  Meanwhile another process commits new data with
an invalidation, and a thread of the first process looks at the ledger.  Then the retriever ends.
Its value is old, and the news that would drop it has already been applied: kept, it would be served
until the next invalidation.
"""

from __future__ import annotations

import pytest

from coherent_cache import cached

from ..workers import PageText, Worker
from .support import LEVELS, Gate, Thread, at_level, check


class Slow:
    """A thread that loads the names and stops when it has read them."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.gate = Gate()
        worker.wiki.after = self.gate.stop
        self.thread = Thread(lambda: worker.wiki.names)
        self.gate.wait()
        worker.wiki.after = lambda: None

    def land(self) -> frozenset[str]:
        self.gate.open()
        found: frozenset[str] = self.thread.result()
        return found


def land_after_a_check(worker: Worker, other: Worker) -> None:
    worker.write("Front", "text")
    slow = Slow(worker)
    other.write("Other", "text")
    check(worker)
    # It had begun before the commit, so for its own request the old value is right.
    assert slow.land() == {"Front"}
    assert worker.wiki.names == {"Front", "Other"}


def test_case_05_slow_loader(worker: Worker, other: Worker) -> None:
    land_after_a_check(worker, other)


@pytest.mark.on("postgresql", "mariadb")
@pytest.mark.parametrize("level", LEVELS)
def test_case_05_at_each_level(worker: Worker, other: Worker, level: str) -> None:
    land_after_a_check(at_level(worker, level), other)


def test_case_05_a_newer_value_is_there_already(worker: Worker, other: Worker) -> None:
    # Who begins after the commit does not wait for the slow one, and his value stays.
    worker.write("Front", "text")
    slow = Slow(worker)
    other.write("Other", "text")
    assert worker.wiki.names == {"Front", "Other"}
    assert slow.land() == {"Front"}
    assert worker.wiki.names == {"Front", "Other"}
    assert worker.wiki.calls == 2


def test_case_05_no_check_before_it_lands(worker: Worker, other: Worker) -> None:
    worker.write("Front", "text")
    slow = Slow(worker)
    other.write("Other", "text")
    assert slow.land() == {"Front"}
    assert worker.wiki.names == {"Front", "Other"}


def test_case_05_own_process_commits(worker: Worker) -> None:
    worker.write("Front", "text")
    slow = Slow(worker)
    worker.write("Other", "text")
    check(worker)
    assert slow.land() == {"Front"}
    assert worker.wiki.names == {"Front", "Other"}


def test_case_05_everything_was_dropped_meanwhile(worker: Worker) -> None:
    # Not by key: what is being computed belongs to what was dropped.
    worker.write("Front", "text")
    slow = Slow(worker)
    worker.cache_manager.evict()
    slow.land()
    calls = worker.wiki.calls
    assert worker.wiki.names == {"Front"}
    assert worker.wiki.calls == calls + 1


class Report:
    def __init__(self, env: Worker) -> None:
        self.env = env

    @cached
    def lines(self) -> list[str]:
        """Computed from another cached value, and slow only after it."""
        found = sorted(self.env.wiki.names)
        self.env.wiki.after()
        return found


def test_case_05_computed_from_another_value(worker: Worker, other: Worker) -> None:
    # Only what it was computed from is invalidated while it is computed.
    worker.write("Front", "text")
    assert worker.wiki.names == {"Front"}
    report = Report(worker)
    gate = Gate()
    worker.wiki.after = gate.stop
    thread = Thread(lambda: report.lines)
    gate.wait()
    worker.wiki.after = lambda: None
    other.write("Other", "text")
    check(worker)
    gate.open()
    assert thread.result() == ["Front"]
    assert report.lines == ["Front", "Other"]
    other.write("Third", "text")
    assert report.lines == ["Front", "Other", "Third"]


def test_case_05_loader_in_a_request_with_an_old_view(worker: Worker, other: Worker) -> None:
    # A request that looked at the ledger long ago loads a key for the first time: its data is
    # new, its view is old, and so the value may be shared.
    worker.write("Front", "old")
    with worker.cache_manager.request():
        assert worker.wiki.names == {"Front"}
        other.write("Front", "new")
        check(worker)
        assert PageText(worker, "Front").text == "new"
    assert worker.read("Front") == "new"
