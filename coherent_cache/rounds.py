"""Work that is done one round at a time, each round for all who asked before it began.

Who asks while a round is under way may not use it: it may have looked before the moment it is
asked about.  He waits for the next round and shares it.  The first who waits for a round leads it:
when the one before ends he alone is woken to begin it, and the others when it has ended, all at
once and without a lock that they would have to take in turn.

An `Exception` of a round reaches all who shared it.  If its leader was cancelled or interrupted
those who waited ask again.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from .points import point

_Event = TypeVar("_Event", threading.Event, asyncio.Event)


class _Round(Generic[_Event]):
    """A round that was asked for and has not ended."""

    __slots__ = ("done", "error", "left", "succeeded", "turn")

    def __init__(self, event: type[_Event]) -> None:
        self.turn: _Event = event()
        self.done: _Event = event()
        self.succeeded = False
        self.error: Exception | None = None
        #: Its leader gave up before its turn came.
        self.left = False

    def end(self, error: BaseException | None) -> None:
        self.succeeded = error is None
        if isinstance(error, Exception):
            self.error = error
        self.done.set()


class _State(Generic[_Event]):
    """Which round is under way and who waits for the next."""

    def __init__(self, event: type[_Event]) -> None:
        # Guards the two below.  Held for a few instructions; no other lock is taken meanwhile.
        self._lock = threading.Lock()
        self._event: type[_Event] = event
        self.busy = False
        self.next: _Round[_Event] | None = None

    def ask(self) -> tuple[_Round[_Event] | None, bool]:
        """Return the round to wait for (None: none is under way) and whether the caller leads."""
        with self._lock:
            if not self.busy:
                self.busy = True
                return None, True
            waiting = self.next
            if waiting is not None:
                return waiting, False
            self.next = _Round(self._event)
            return self.next, True

    def end(self, ended: _Round[_Event] | None, error: BaseException | None) -> None:
        """The round under way has ended: the next may begin."""
        with self._lock:
            following, self.next = self.next, None
            if following is None or following.left:
                self.busy = False
            # Before anybody may leave: a leader who finds that it is not his turn says that he has
            # left, and one who was taken to be there would never end his round.
            # (Test: test_a_round_whose_leader_is_interrupted_as_his_turn_comes.)
            if following is not None:
                (following.done if following.left else following.turn).set()
        if ended is not None:
            ended.end(error)

    def leave(self, led: _Round[_Event]) -> None:
        """The leader of a round was interrupted while he waited for his turn."""
        with self._lock:
            led.left = not led.turn.is_set()
        if not led.left:
            self.end(led, KeyboardInterrupt())


class ThreadRounds:
    """Rounds among threads."""

    def __init__(self) -> None:
        self._state: _State[threading.Event] = _State(threading.Event)

    def run(self, work: Callable[[], None]) -> None:
        """Have *work* done by a round that begins after this call."""
        while True:
            mine, leads = self._state.ask()
            if mine is not None and not leads:
                mine.done.wait()
                if mine.error is not None:
                    raise mine.error
                if mine.succeeded:
                    return
                continue  # its leader was interrupted
            if mine is not None:
                self.wait_for_turn(mine)
            try:
                work()
            except BaseException as error:
                self._state.end(mine, error)
                raise
            self._state.end(mine, None)
            return

    @point(before="check: another is under way, not waited")
    def wait_for_turn(self, mine: _Round[threading.Event]) -> None:
        """Wait until the round before has ended."""
        try:
            mine.turn.wait()
        except BaseException:
            self._state.leave(mine)
            raise


class TaskRounds:
    """Rounds among the tasks of one event loop."""

    def __init__(self) -> None:
        self._state: _State[asyncio.Event] = _State(asyncio.Event)

    async def run(self, work: Callable[[], Awaitable[None]]) -> None:
        """Have *work* done by a round that begins after this call."""
        # Mostly nobody else is there.  Then `_State`'s lock would take longer than the rest, and is
        # not needed: no other thread has this event loop.
        state = self._state
        mine = None
        if not state.busy:
            state.busy = True
        else:
            mine, leads = await self._wait()
            if not leads:
                return
        try:
            await work()
        except BaseException as error:
            state.end(mine, error)
            raise
        if mine is None and state.next is None:
            state.busy = False
        else:
            state.end(mine, None)

    async def _wait(self) -> tuple[_Round[asyncio.Event] | None, bool]:
        """Wait for the round that begins next, and until it has ended unless the caller leads."""
        while True:
            mine, leads = self._state.ask()
            if mine is None:
                return None, True
            if leads:
                try:
                    await mine.turn.wait()
                except BaseException:
                    self._state.leave(mine)
                    raise
                return mine, True
            await mine.done.wait()
            if mine.error is not None:
                raise mine.error
            if mine.succeeded:
                return mine, False
            # Its leader was cancelled: ask again.
