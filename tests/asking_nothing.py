"""What holds in each mode in which a check may ask nothing (`Strict` with memory, `OneHost`)."""

from __future__ import annotations

import pytest

from .schedules.schedule import Schedule
from .workers import PageText, Worker, put


class CountingWorker(Worker):
    """A worker that counts the checks it has made."""

    @property
    def checks(self) -> int:
        return self.cache_manager.statistics.checks


def asks_after_a_commit_only(reader: CountingWorker, writer: Worker) -> None:
    before = reader.checks
    for _ in range(3):
        assert reader.read("Front") == "old"
        assert PageText(reader, "Front").text == "old"  # outside a request as well
    assert reader.checks == before
    writer.write("Front", "new")
    assert reader.read("Front") == "new"
    assert reader.read("Front") == "new"
    assert reader.checks == before + 1


def sees_own_commits_and_rollbacks(reader: Worker) -> None:
    manager = reader.cache_manager
    with manager.request():
        with manager.begin() as connection:
            put(connection, "Front", "own")
            del PageText(reader, "Front").text
            assert PageText(reader, "Front").text == "own"
        assert PageText(reader, "Front").text == "own"
    with manager.request():
        with pytest.raises(ZeroDivisionError), manager.begin() as connection:
            put(connection, "Front", "never")
            del PageText(reader, "Front").text
            assert PageText(reader, "Front").text == "never"
            raise ZeroDivisionError
        assert PageText(reader, "Front").text == "own"
    assert reader.read("Front") == "own"


def asks_for_what_comes_during_a_check(reader: Worker, writer: Worker, schedule: Schedule) -> None:
    writer.write("Other", "is committed, so that there is a check")
    schedule(
        """
        early   reaches  check: news read, not applied
        others  ends
        early   ends
        """,
        early=lambda: reader.read("Front"),
        others=lambda: writer.write("Front", "new"),
    )
    assert reader.read("Front") == "new"
