"""One computation for all: of the processes that miss a value, one computes it for the others.

It is for attributes that ask for it (``once="host"`` or ``once="cluster"``), and for managers with
a tier, since there the others find the value.  A reader who found nothing takes a lock that all
processes share, looks again, computes, puts the value into the tier, and lets go.  Who does not get
the lock looks for the value now and then, and tries again.

The lock is named by key, variant *and* generation: after an invalidation new readers do not wait
for one who is computing the old value, and one who waits for him moves on to the new name.

The lock is held while the retriever runs, so every wait for it has an end, after which the waiter
computes the value himself:

- *seconds* (`CacheManager(once_wait=...)`) for everyone;
- `PATIENCE` for one who holds a database connection: he may hold a lock that the one who computes
  waits for, or the connection that another thread of his process needs;
- none at all for one who holds such a lock already (A reads B here while B reads A there, or two
  names share a file), nor for a lock that his own process holds: whom to wait for within a process
  the flights have decided.

It saves work and nothing else: what a value may be taken for is decided by `shared`, whoever
computed it.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import tempfile
import threading
import time
from typing import Any, Literal, Protocol

from filelock import FileLock, Timeout

from .errors import ConfigurationError
from .forking import tell_after_fork
from .load import Chain

_log = logging.getLogger("coherent_cache")

#: How far: one computation on this host, or one of all hosts that share the tier.
Once = Literal["host", "cluster"]

#: Seconds that one who holds a database connection waits.
PATIENCE = 1.0

#: Lock files of one user on one host.  Two names that share one may cost a wait or a second
#: computation, never more.
_FILES = 4096

#: Seconds between two looks: an eighth of the time waited so far, within these bounds.
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.005, 0.1


class Mutex(Protocol):
    """A lock that processes share."""

    def acquire(self, wait: bool = ..., /) -> bool:
        """Return at once whether the caller has it, or may go on without; False only while
        another one holds it.  *wait* is False."""
        ...

    def release(self) -> None:
        """Let go.  Called once after each `acquire` that returned True, by any thread."""


class HasMutex(Protocol):
    """What is asked of the tier here."""

    def mutex(self, key: str, variant: str, generation: str, /) -> Mutex | None:
        """Return the lock that all hosts share for that value; None if there is none."""


def check_once(once: str | None) -> None:
    """Raise `ConfigurationError` unless *once* is one of the choices."""
    if once not in (None, "host", "cluster"):
        raise ConfigurationError(f'once is "host", "cluster" or None, not {once!r}')


class Turns:
    """Who computes in this process, for others too; of one manager."""

    def __init__(self, tier: HasMutex, seconds: float) -> None:
        self._tier = tier
        # One of the user's: generations are random, so names of two ledgers differ, while a ledger
        # has many URLs (of another driver or user).
        user = os.getuid() if hasattr(os, "getuid") else 0
        self._directory = os.path.join(tempfile.gettempdir(), f"coherent_cache-{user}.once")
        self._seconds = seconds
        # Guards the set, and every `Chain.turns_held`.  A leaf, never held during I/O or user code.
        self._lock = threading.Lock()
        #: The locks that this process holds or tries to get at this moment.
        self._taken: set[str] = set()

    def wait(self, once: Once, key: str, variant: str, chain: Chain) -> Wait:
        """The wait of one reader, whose loads are *chain*, until it is his turn."""
        seconds = self._seconds
        if chain.turns_held:
            # (Test: test_two_values_computed_from_each_other_the_other_way_round.)
            seconds = 0.0
        elif chain.holds_connection:
            # (Test: test_who_holds_a_connection_waits_for_a_second.)
            seconds = min(seconds, PATIENCE)
        return _WaitForTurn(self, once, key, variant, chain, seconds)

    def turn(self, once: Once, key: str, variant: str, generation: str) -> Turn:
        """The lock of one name."""
        mutex = self._tier.mutex(key, variant, generation) if once == "cluster" else None
        text = f"{len(key)} {key} {len(variant)} {variant} {generation}"
        digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16)
        if mutex is not None:
            return Turn(mutex, digest.hexdigest(), generation)
        path = self._path(int.from_bytes(digest.digest()) % _FILES)
        return Turn(FileMutex(path), path, generation)

    def _path(self, number: int) -> str:
        return os.path.join(self._directory, f"{number:03x}.lock")

    def enter(self, place: str) -> bool:
        """Whether no other load of this process is at *place*; the caller is from now on."""
        with self._lock:
            if place in self._taken:
                return False
            self._taken.add(place)
            return True

    def leave(self, place: str) -> None:
        """The reverse of `enter`."""
        with self._lock:
            self._taken.discard(place)

    def after_fork(self) -> None:
        """In a forked child: the parent's other threads, one of which may have the lock, are not
        here, and will not leave.  (Test: test_a_child_forked_while_another_thread_computes.)"""
        self._lock = threading.Lock()
        self._taken = set()

    def count(self, chain: Chain, more: int) -> None:
        """The loads of *chain* hold so many more locks."""
        with self._lock:
            chain.turns_held += more


class Turn:
    """One lock, and where it is; by name for a tier's lock, by file for a host's."""

    def __init__(self, mutex: Mutex, place: str, generation: str) -> None:
        self.mutex = mutex
        self.place = place
        self.generation = generation


class FileMutex:
    """A file that is locked; the system lets go of it when the process ends, however it does."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock: FileLock | None = None
        tell_after_fork(self)

    def acquire(self, wait: bool = False) -> bool:
        """See `Mutex.acquire`.  A file that cannot be made keeps nobody from computing."""
        try:
            os.makedirs(os.path.dirname(self._path), mode=0o700, exist_ok=True)
            # Not of one thread: a coroutine's lock is taken and released by any.
            lock = FileLock(self._path, thread_local=False)
            lock.acquire(blocking=False)
        except Timeout:
            return False
        except OSError as error:
            _log.warning("%s cannot be locked (%s): others may compute the same", self._path, error)
            return True
        self._lock = lock
        return True

    def release(self) -> None:
        """See `Mutex.release`."""
        if self._lock is not None:
            self._lock.release()

    def after_fork(self) -> None:
        """In a child: close the file without letting go of it.  An open one would hold the lock
        after the parent's death, and its end would take it from the living parent.

        filelock does so itself from some release on.  (Tests: test_a_child_*.)
        """
        lock, self._lock = self._lock, None
        context: Any = getattr(lock, "_context", None)
        descriptor = getattr(context, "lock_file_fd", None)
        if descriptor is not None:
            os.close(descriptor)
            context.lock_file_fd = None


class Wait:
    """Between two looks a reader calls `step`.  This one waits for nobody."""

    def __enter__(self) -> Wait:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    async def __aenter__(self) -> Wait:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    def step(self, generation: str | None) -> float | None:
        """He has looked at *generation* and found nothing: return the seconds until he looks again,
        or None if he is to compute.  May do I/O."""
        return None

    async def astep(self, generation: str | None) -> float | None:
        """`step` in a coroutine."""
        return None


NO_WAIT = Wait()


class _WaitForTurn(Wait):
    """One reader's wait until it is his turn."""

    def __init__(
        self, turns: Turns, once: Once, key: str, variant: str, chain: Chain, seconds: float
    ) -> None:
        self._turns = turns
        self._name: tuple[Once, str, str] = (once, key, variant)
        self._chain = chain
        self._seconds = seconds
        self._begin = time.monotonic()
        self._process = os.getpid()
        # Guards what follows, against a `leave` that comes while another thread is in `step`, for
        # a coroutine that was cancelled.  Only the turns' lock is taken under it.
        self._lock = threading.Lock()
        self._turn: Turn | None = None
        self._is_over = False

    def __exit__(self, *_: object) -> None:
        self.leave()

    async def __aexit__(self, *_: object) -> None:
        # Also in a coroutine that is cancelled: the thread goes on.
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # it is closed without its loop
            self.leave()
            return
        await asyncio.shield(loop.run_in_executor(None, self.leave))

    def step(self, generation: str | None) -> float | None:
        """See `Wait.step`."""
        if generation is None:
            return None
        turn = self._turn
        if turn is not None and turn.generation == generation:
            return None  # it is his turn, and he has looked since
        self._let_go()
        turn = self._turns.turn(*self._name, generation)
        if not self._turns.enter(turn.place):
            # The one who has it may wait for this reader, or for his connection.
            # (Tests: test_pool_of_one, test_a_circle_through_a_flight.)
            return None
        if self._take(turn):
            # The one before may have put the value there since the look, and let go.
            # (Test: test_the_value_came_between_the_look_and_the_lock.)
            return 0.0
        waited = time.monotonic() - self._begin
        if waited >= self._seconds:
            return None
        pause = min(max(waited / 8, _SHORTEST_PAUSE), _LONGEST_PAUSE)
        return min(pause, self._seconds - waited)

    def leave(self) -> None:
        """Let go of the lock, and take none any more.  Does I/O."""
        with self._lock:
            self._is_over = True
        self._let_go()

    async def astep(self, generation: str | None) -> float | None:
        """See `Wait.astep`."""
        return await asyncio.to_thread(self.step, generation)

    def _take(self, turn: Turn) -> bool:
        taken = False
        try:
            taken = turn.mutex.acquire(False)
        finally:
            if not taken:
                self._turns.leave(turn.place)
        with self._lock:
            if taken and not self._is_over:
                self._turn = turn
                self._turns.count(self._chain, 1)
                return True
        if taken:  # the reader was cancelled meanwhile (test_cancelled_while_it_takes_the_lock)
            turn.mutex.release()
            self._turns.leave(turn.place)
        return False

    def _let_go(self) -> None:
        with self._lock:
            turn, self._turn = self._turn, None
        if turn is None or self._process != os.getpid():
            return
        self._turns.count(self._chain, -1)
        try:
            turn.mutex.release()
        finally:
            self._turns.leave(turn.place)
