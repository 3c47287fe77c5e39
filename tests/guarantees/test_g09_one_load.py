"""G9: in a process, concurrent misses of one key make one retriever call."""

from __future__ import annotations

import threading

import pytest

from ..schedules.schedule import Schedule
from ..workers import PageText, Worker
from .helpers import SECONDS, Gate, elsewhere, in_thread


def _loads_under_way(worker: Worker) -> bool:
    return bool(worker.cache_manager._loader._flights._flights)


ALL_WAIT = """
    first   reaches  load: label taken, no data read
    second  reaches  load: joined or led
    second  goes on
    third   reaches  load: joined or led
    third   goes on
    fourth  reaches  load: joined or led
    fourth  goes on
"""


def test_g09_many_ask_one_computes(worker: Worker, schedule: Schedule) -> None:
    played = schedule(
        f"""
        {ALL_WAIT}
        first   ends
        second  ends
        third   ends
        fourth  ends
        """,
        **{name: lambda: worker.wiki.names for name in ("first", "second", "third", "fourth")},
    )
    assert list(played.values()) == [frozenset()] * 4
    assert len({id(value) for value in played.values()}) == 1
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


def test_g09_an_exception_reaches_those_who_asked(worker: Worker, schedule: Schedule) -> None:
    def fail() -> None:
        raise KeyError("out of order")

    worker.wiki.before = fail
    played = schedule(
        f"""
        {ALL_WAIT}
        first   fails
        second  fails
        third   fails
        fourth  fails
        """,
        **{name: lambda: worker.wiki.names for name in ("first", "second", "third", "fourth")},
    )
    assert {type(error) for error in played.values()} == {KeyError}
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
