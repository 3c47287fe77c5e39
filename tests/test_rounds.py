"""Rounds: one at a time, each shared by those who asked before it began."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from coherent_cache.rounds import TaskRounds, ThreadRounds

from .guarantees.helpers import Gate, in_thread

WAITERS = 20


def waiting(rounds: Any, count: int) -> None:
    """Until *count* threads wait for the round after the one under way."""
    done = threading.Event()
    for _ in range(100_000):
        following = rounds._state.next
        waiters = 0
        if following is not None:
            waiters = len(following.done._cond._waiters) + len(following.turn._cond._waiters)
        if waiters >= count:
            return
        done.wait(0.001)
    raise AssertionError("they never waited")


def start(rounds: ThreadRounds, work: Callable[[], None], count: int) -> list[Any]:
    futures = [in_thread(lambda: rounds.run(work)) for _ in range(count)]
    waiting(rounds, count)
    return futures


def test_those_who_wait_share_the_next_round() -> None:
    rounds, gate, begun = ThreadRounds(), Gate(), []

    def work() -> None:
        begun.append(True)
        if len(begun) == 1:
            gate()

    first = in_thread(lambda: rounds.run(work))
    gate.wait()
    others = start(rounds, work, WAITERS)
    assert len(begun) == 1
    gate.open()
    for future in (first, *others):
        future.result(10)
    assert len(begun) == 2
    rounds.run(work)
    assert len(begun) == 3


def test_an_error_reaches_those_who_shared_the_round() -> None:
    rounds, gate, begun = ThreadRounds(), Gate(), []

    def work() -> None:
        begun.append(True)
        if len(begun) == 1:
            gate()
        if len(begun) == 2:
            raise OSError("gone")

    first = in_thread(lambda: rounds.run(work))
    gate.wait()
    others = start(rounds, work, WAITERS)
    gate.open()
    first.result(10)
    for future in others:
        with pytest.raises(OSError, match="gone"):
            future.result(10)
    rounds.run(work)
    assert len(begun) == 3


def test_a_leader_that_is_interrupted_is_succeeded() -> None:
    rounds, gate, begun = ThreadRounds(), Gate(), []

    def work() -> None:
        begun.append(True)
        if len(begun) == 1:
            gate()
        if len(begun) == 2:
            raise KeyboardInterrupt

    first = in_thread(lambda: rounds.run(work))
    gate.wait()
    others = start(rounds, work, 5)
    gate.open()
    first.result(10)
    interrupted = 0
    for future in others:
        try:
            future.result(10)
        except KeyboardInterrupt:
            interrupted += 1
    assert interrupted == 1
    assert len(begun) >= 3


def test_tasks_share_a_round_and_succeed_a_leader_that_is_cancelled() -> None:
    async def story() -> None:
        rounds, entered, release = TaskRounds(), asyncio.Event(), asyncio.Event()
        begun: list[int] = []

        async def work() -> None:
            begun.append(len(begun))
            entered.set()
            await release.wait()

        first = asyncio.create_task(rounds.run(work))
        await entered.wait()
        others = [asyncio.create_task(rounds.run(work)) for _ in range(WAITERS)]
        await asyncio.sleep(0)
        release.set()
        await asyncio.gather(first, *others)
        assert begun == [0, 1]

        # Cancelled before its turn, and in it.
        for turn_came in (False, True):
            begun.clear()
            release.clear()
            second, go_on = asyncio.Event(), asyncio.Event()

            async def stopping() -> None:
                begun.append(len(begun))
                if len(begun) == 1:
                    await release.wait()
                if len(begun) == 2:
                    second.set()  # noqa: B023
                    await go_on.wait()  # noqa: B023

            first = asyncio.create_task(rounds.run(stopping))
            leader, *others = [asyncio.create_task(rounds.run(stopping)) for _ in range(5)]
            await asyncio.sleep(0)
            if turn_came:
                release.set()
                await second.wait()
            leader.cancel()
            with pytest.raises(asyncio.CancelledError):
                await leader
            release.set()
            go_on.set()
            await asyncio.gather(first, *others)
            assert len(begun) >= 2
            await rounds.run(work)

    asyncio.run(asyncio.wait_for(story(), 30))
