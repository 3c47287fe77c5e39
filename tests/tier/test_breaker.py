"""The circuit breaker alone, on a clock that stands still."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from coherent_cache.tier.breaker import Breaker, Permit

from ..children import fork


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker("the server", timeout=0.25, clock=clock)


def admit(breaker: Breaker) -> Permit:
    permit = breaker.admit()
    assert permit is not None
    return permit


def fail(breaker: Breaker, times: int = 1) -> None:
    for _ in range(times):
        breaker.failed(admit(breaker), OSError("away"))


def test_opens_after_failures_in_a_row(breaker: Breaker) -> None:
    fail(breaker, 2)
    breaker.succeeded(admit(breaker))
    fail(breaker, 2)
    assert not breaker.is_open
    fail(breaker)
    assert breaker.is_open
    assert breaker.admit() is None


def test_opens_after_one_that_used_up_the_time(breaker: Breaker, clock: Clock) -> None:
    permit = admit(breaker)
    clock.now += 0.25
    breaker.failed(permit, TimeoutError())
    assert breaker.is_open


def test_pauses_double_up_to_the_limit(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 3)
    for pause in (1, 2, 4, 8, 16, 30, 30):
        clock.now += pause - 0.01
        assert breaker.admit() is None
        clock.now += 0.01
        fail(breaker)
    clock.now += 30
    breaker.succeeded(admit(breaker))
    fail(breaker, 3)
    clock.now += 1  # the first pause again
    assert admit(breaker).probe


def test_one_thread_probes(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.now += 1
    together = threading.Barrier(16)

    def ask(_: int) -> Permit | None:
        together.wait()
        return breaker.admit()

    with ThreadPoolExecutor(16) as pool:
        permits = [each for each in pool.map(ask, range(16)) if each is not None]
    assert len(permits) == 1
    breaker.succeeded(permits[0])
    assert not admit(breaker).probe


def test_late_answers_count_for_nothing(breaker: Breaker, clock: Clock) -> None:
    early = [admit(breaker) for _ in range(8)]
    fail(breaker, 3)
    breaker.succeeded(early[0])  # was answered before it went away
    assert breaker.is_open
    clock.now += 1
    breaker.succeeded(admit(breaker))
    for permit in early:  # they waited all the time
        breaker.failed(permit, TimeoutError())
    assert not breaker.is_open
    fail(breaker, 2)
    breaker.succeeded(early[0])
    fail(breaker)
    assert breaker.is_open


def test_one_line_each(breaker: Breaker, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    permits = [admit(breaker) for _ in range(50)]
    clock.now += 0.3
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda permit: breaker.failed(permit, OSError("away")), permits))
    for _ in range(5):
        clock.now += 60
        fail(breaker)
    clock.now += 60
    breaker.succeeded(admit(breaker))
    breaker.succeeded(admit(breaker))
    assert [record.getMessage() for record in caplog.records] == [
        "the server does not answer and is left out until it does: OSError('away')",
        "the server answers again and is used",
    ]
    assert breaker.opened == 1


def test_an_abandoned_probe_is_made_by_the_next(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.now += 1
    breaker.abandoned(admit(breaker))
    assert admit(breaker).probe


def test_forked_in_the_middle_of_everything(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.now += 1
    admit(breaker)  # a probe that the child knows nothing of

    def in_child() -> bool:
        breaker.after_fork()
        breaker.succeeded(admit(breaker))
        return breaker.is_open

    with breaker._lock:  # by another thread, at the moment of the fork
        child = fork(in_child)
    assert child.join() is False
    assert breaker.admit() is None  # the parent's probe goes on
