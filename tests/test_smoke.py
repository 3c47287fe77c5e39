"""The shortest story: what is written by one worker is read by the other."""

import pytest

from .workers import Worker


def test_a_commit_reaches_the_other_worker(worker: Worker, other: Worker) -> None:
    assert other.wiki.names == frozenset()
    worker.write("Front", "Hello")
    assert other.wiki.names == {"Front"}
    assert other.read("Front") == "Hello"
    worker.write("Front", "Bye")
    assert other.read("Front") == "Bye"
    assert other.read("Front") == "Bye"


@pytest.mark.on("sqlite-memory")
def test_in_memory(worker: Worker) -> None:
    worker.write("Front", "Hello")
    assert worker.read("Front") == "Hello"
