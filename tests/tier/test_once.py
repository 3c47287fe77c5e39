"""One process computes a value for all, and nobody waits for ever for it."""

from __future__ import annotations

import asyncio
import contextvars
import multiprocessing
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.pool import QueuePool

from coherent_cache import CacheManager, ConfigurationError, cached, loading, once
from coherent_cache.once import Once, Turns
from coherent_cache.tier import Tier

from ..children import fork
from ..databases import Database
from ..guarantees.helpers import SECONDS, Gate, in_thread
from ..guarantees.test_g10_good_neighbour import _until_waiting
from ..workers import Worker, page
from .conftest import on_server
from .servers import Server
from .shelf import Directory, Lock, Shelf

one_database = pytest.mark.on("sqlite-wal")
both = pytest.mark.parametrize("how", ["host", "cluster"])

#: Who waits for so long makes the test fail.
LONG = 60.0

processes = multiprocessing.get_context("fork")


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the lock files are."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
def make(worker: Worker, shelf: Shelf) -> Callable[..., CacheManager]:
    """Makes the managers of other processes."""
    worker.cache_manager.generation("k")  # the ledger's first mark is a generation of its own

    def make_manager(**options: Any) -> CacheManager:
        return Worker(
            worker.database, **{"tier": shelf, "once_wait": LONG, **options}
        ).cache_manager

    return make_manager


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set when somebody waits for his turn."""
    event, pause = threading.Event(), loading.pause

    def pausing(seconds: float) -> None:
        if seconds:
            event.set()
        pause(seconds)

    monkeypatch.setattr(loading, "pause", pausing)
    return event


def turns(manager: CacheManager) -> Turns:
    found = manager._loader._turns
    assert found is not None
    return found


def is_locked(manager: CacheManager, how: Once, key: str = "k") -> bool:
    generation = manager.generation(key)
    assert generation is not None
    mutex = turns(manager).turn(how, key, "", generation).mutex
    if not mutex.acquire(False):
        return True
    mutex.release()
    return False


class Holder:
    """One who computes the value of ``k``, until the gate is opened."""

    def __init__(self, manager: CacheManager, how: Once, value: Any = 1) -> None:
        self.gate = Gate()

        def retriever() -> Any:
            self.gate()
            if isinstance(value, Exception):
                raise value
            return value

        self.result: Future[Any] = in_thread(lambda: manager.get("k", retriever, once=how))
        self.gate.wait()

    def end(self) -> Any:
        self.gate.open()
        return self.result.result(SECONDS)


# One call


@both
@one_database
def test_one_call_of_many_processes(worker: Worker, tmp_path: Path, how: Once) -> None:
    worker.cache_manager.generation("k")
    count, width = 4, 8
    barrier = processes.Barrier(count * width)

    def child() -> tuple[set[int], int, int]:
        mine = Worker(worker.database, tier=Directory(tmp_path), once_wait=LONG).cache_manager

        def read() -> int:
            barrier.wait(SECONDS)
            return mine.get("k", os.getpid, once=how)

        with ThreadPoolExecutor(width) as pool:
            values = {each.result(SECONDS) for each in [pool.submit(read) for _ in range(width)]}
        return values, mine.statistics.loads, mine.statistics.tier_hits

    answers = [each.join() for each in [fork(child) for _ in range(count)]]
    assert len(set().union(*(values for values, _, _ in answers))) == 1
    assert sum(loads for _, loads, _ in answers) == 1
    assert sum(hits for _, _, hits in answers) == count - 1


class Shared:
    """Attributes whose values say whether a lock was held while they were computed."""

    name = "a"

    def __init__(self, manager: CacheManager) -> None:
        self.cache_manager = manager

    def is_held(self) -> bool:
        return bool(turns(self.cache_manager)._taken)

    @cached(once="host")
    def one(self) -> bool:
        return self.is_held()

    @cached("name", once="cluster")
    def keyed(self) -> bool:
        return self.is_held()

    @cached(key=lambda self: self.name, once="host")
    def by_function(self) -> bool:
        return self.is_held()

    @cached(tier=False, once="host")
    def at_home(self) -> bool:
        return self.is_held()

    @cached
    def plain(self) -> bool:
        return self.is_held()


@one_database
def test_attributes(make: Callable[..., CacheManager]) -> None:
    shared = Shared(make())
    assert shared.one
    assert shared.keyed
    assert shared.by_function
    assert not shared.at_home
    assert not shared.plain
    assert not shared.is_held()


@one_database
def test_what_is_no_choice(worker: Worker) -> None:
    wrong: Any = "galaxy"
    with pytest.raises(ConfigurationError, match="galaxy"):
        cached("name", once=wrong)(lambda self: 1)
    with pytest.raises(ConfigurationError, match="galaxy"):
        worker.cache_manager.get("k", lambda: 1, once=wrong)
    with pytest.raises(ConfigurationError, match="once_wait"):
        CacheManager(worker.engine, once_wait=-1)


@one_database
def test_without_a_tier_it_changes_nothing(worker: Worker, files: Path) -> None:
    assert worker.cache_manager.get("k", lambda: 1, once="host") == 1
    assert not list(files.glob("*.once"))


@both
@one_database
def test_the_value_is_there_before_the_lock_is_free(
    make: Callable[..., CacheManager], shelf: Shelf, how: Once, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = make()
    locked = []
    put = shelf.put

    def putting(*arguments: Any) -> None:
        locked.append(is_locked(manager, how))
        put(*arguments)

    monkeypatch.setattr(shelf, "put", putting)
    assert manager.get("k", lambda: 1, once=how) == 1
    assert locked == [True]
    assert not is_locked(manager, how)


@one_database
def test_the_value_came_between_the_look_and_the_lock(
    make: Callable[..., CacheManager], shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = make(), make()
    gate, mutex = Gate(), shelf.mutex
    monkeypatch.setattr(shelf, "mutex", lambda *name: (gate(), mutex(*name))[1])
    reader = in_thread(lambda: two.get("k", lambda: 2, once="cluster"))
    gate.wait()
    monkeypatch.setattr(shelf, "mutex", mutex)
    assert one.get("k", lambda: 1, once="cluster") == 1
    gate.open()
    assert reader.result(SECONDS) == 1


@both
@one_database
def test_a_waiter_takes_the_value_while_the_lock_is_held(
    make: Callable[..., CacheManager], shelf: Shelf, waits: threading.Event, how: Once
) -> None:
    """So many who wait do not take as many times as long: none needs the lock."""
    one, two = make(), make()
    generation = two.generation("k")
    assert generation is not None
    mutex = turns(one).turn(how, "k", "", generation).mutex
    assert mutex.acquire(False)
    reader = in_thread(lambda: two.get("k", lambda: 2, once=how))
    assert waits.wait(SECONDS)
    shelf.put("k", "", generation, {}, 1)
    assert reader.result(SECONDS) == 1
    mutex.release()


# When the value is invalidated, or its retriever raises


@both
@one_database
def test_new_readers_do_not_wait_for_the_old_value(
    worker: Worker, make: Callable[..., CacheManager], how: Once
) -> None:
    holder = Holder(make(), how)
    worker.cache_manager.invalidate("k")
    assert make().get("k", lambda: 2, once=how) == 2
    holder.end()
    assert make().get("k", lambda: 3, once=how) == 2


@both
@one_database
def test_one_who_waited_for_the_old_value_computes_the_new_one_for_all(
    worker: Worker, make: Callable[..., CacheManager], waits: threading.Event, how: Once
) -> None:
    holder = Holder(make(), how)
    old = in_thread(lambda: make().get("k", lambda: 2, once=how))
    assert waits.wait(SECONDS)
    worker.cache_manager.invalidate("k")
    assert old.result(SECONDS) == 2
    assert make().get("k", lambda: 3, once=how) == 2
    holder.end()


@both
@one_database
def test_the_next_one_takes_over_after_an_exception(
    make: Callable[..., CacheManager], waits: threading.Event, how: Once
) -> None:
    holder = Holder(make(), how, ValueError("no value"))
    reader = in_thread(lambda: make().get("k", lambda: 2, once=how))
    assert waits.wait(SECONDS)
    with pytest.raises(ValueError, match="no value"):
        holder.end()
    assert reader.result(SECONDS) == 2
    assert make().get("k", lambda: 3, once=how) == 2


# Nobody waits for ever


def computes_for_ever(worker: Worker, path: Path, how: Once) -> Any:
    """A process in the middle of the retriever."""
    started = processes.Event()

    def compute() -> None:
        started.set()
        signal.pause()

    def child() -> None:
        Worker(worker.database, tier=Directory(path)).cache_manager.get("k", compute, once=how)

    found = fork(child)
    assert started.wait(SECONDS)
    return found


@both
@one_database
def test_killed(
    make: Callable[..., CacheManager],
    worker: Worker,
    tmp_path: Path,
    waits: threading.Event,
    how: Once,
) -> None:
    child = computes_for_ever(worker, tmp_path, how)
    mine = make(tier=Directory(tmp_path))
    reader = in_thread(lambda: mine.get("k", lambda: 2, once=how))
    assert waits.wait(SECONDS)
    os.kill(child.pid, signal.SIGKILL)
    child.wait_for_kill()
    assert reader.result(SECONDS) == 2


@both
@one_database
def test_stopped(
    make: Callable[..., CacheManager], worker: Worker, tmp_path: Path, how: Once
) -> None:
    child = computes_for_ever(worker, tmp_path, how)
    os.kill(child.pid, signal.SIGSTOP)
    mine = make(tier=Directory(tmp_path), once_wait=0.05)
    assert mine.get("k", lambda: 2, once=how) == 2
    os.kill(child.pid, signal.SIGKILL)
    child.wait_for_kill()


@both
@one_database
def test_two_values_computed_from_each_other_the_other_way_round(
    worker: Worker, tmp_path: Path, make: Callable[..., CacheManager], how: Once
) -> None:
    """One process computes A and needs B, another computes B and needs A."""
    barrier = processes.Barrier(2)

    def compute(first: str, second: str) -> tuple[str, str]:
        mine = Worker(worker.database, tier=Directory(tmp_path), once_wait=LONG).cache_manager

        def outer() -> tuple[str, str]:
            barrier.wait(SECONDS)
            inner = mine.get(second, lambda: second, once=how)
            barrier.wait(SECONDS)  # both are held until here
            return first, inner if isinstance(inner, str) else inner[0]

        return mine.get(first, outer, once=how)

    child = fork(lambda: compute("B", "A"))
    assert compute("A", "B") == ("A", "B")
    assert child.join() == ("B", "A")


@one_database
def test_names_that_share_a_file(
    make: Callable[..., CacheManager], waits: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(once, "_FILES", 1)
    one, two = make(), make()
    holder = Holder(one, "host")
    assert one.get("other", lambda: one.get("third", lambda: 3, once="host"), once="host") == 3
    reader = in_thread(lambda: two.get("fourth", lambda: 4, once="host"))
    assert waits.wait(SECONDS)
    assert holder.end() == 1
    assert reader.result(SECONDS) == 4


@both
@one_database
def test_a_circle_through_a_flight(make: Callable[..., CacheManager], how: Once) -> None:
    """One thread computes A and waits for the other one's load of B, which needs A."""
    mine = make()
    in_a, in_b = Gate(), Gate()

    def a() -> str:
        in_a()
        return "A" + mine.get("B", lambda: "b")

    def b() -> str:
        in_b()
        return "B" + mine.get("A", lambda: "a", once=how)

    first = in_thread(lambda: mine.get("A", a, once=how))
    in_a.wait()
    second = in_thread(lambda: mine.get("B", b))
    in_b.wait()
    in_a.open()
    for _ in range(5000):
        if waiting(mine):
            break
        time.sleep(0.001)
    in_b.open()
    assert second.result(SECONDS) == "Ba"
    assert first.result(SECONDS) == "ABa"


def waiting(manager: CacheManager) -> bool:
    flights = manager._loader._flights._flights
    return any(flight.chain.waiting_on for flight in list(flights.values()))


@both
@one_database
def test_pool_of_one(
    worker: Worker,
    make: Callable[..., CacheManager],
    shelf: Shelf,
    how: Once,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The one who computes waits for the connection; the one who has it wants the value."""
    monkeypatch.setattr(once, "PATIENCE", LONG)
    engine = worker.database.engine(
        poolclass=QueuePool, pool_size=1, max_overflow=0, pool_timeout=5
    )
    mine = Worker(worker.database, engine=engine, tier=shelf, once_wait=LONG).cache_manager
    gate = Gate()

    def names() -> frozenset[str]:
        gate()
        with mine.connect() as connection:
            return frozenset(connection.scalars(select(page.c.name)))

    leader = in_thread(lambda: mine.get("k", names, once=how))
    gate.wait()
    with mine.begin() as connection:
        connection.execute(page.select()).all()
        gate.open()
        assert mine.get("k", names, once=how) == frozenset()
    assert leader.result(SECONDS) == frozenset()


@both
@pytest.mark.on("sqlite-wal", "postgresql", "mariadb")
def test_who_holds_a_connection_waits_for_a_second(
    make: Callable[..., CacheManager], how: Once, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one who computes, elsewhere, may wait behind a writer that waits for this transaction."""
    monkeypatch.setattr(once, "PATIENCE", 0.01)
    mine = make()
    holder = Holder(make(), how)
    with mine.request(), mine.begin() as connection:
        connection.execute(select(page.c.name)).all()
        assert mine.get("k", lambda: 2, once=how) == 2
    assert holder.end() == 1


@pytest.mark.on("postgresql", "mariadb")
def test_a_load_elsewhere_that_waits_behind_a_writer(
    worker: Worker, make: Callable[..., CacheManager], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A circle through two processes and the database: this transaction has read the table, a
    writer waits for it, and the one who computes waits behind the writer."""
    monkeypatch.setattr(once, "PATIENCE", 0.05)
    mine, other, gate = make(), make(), Gate()
    wanted = (
        "LOCK TABLE page IN ACCESS EXCLUSIVE MODE"
        if worker.database.kind == "postgresql"
        else "ALTER TABLE page COMMENT 'changed'"
    )

    def names() -> frozenset[str]:
        gate()
        with other.connect() as connection:
            return frozenset(connection.scalars(select(page.c.name)))

    def write() -> None:
        with worker.engine.begin() as connection:
            connection.exec_driver_sql(wanted)

    with mine.request(), mine.begin() as connection:
        connection.execute(select(page.c.name)).all()
        load = in_thread(lambda: other.get("k", names, once="host"))
        gate.wait()
        writer = in_thread(write)
        _until_waiting(worker, 1)
        gate.open()
        _until_waiting(worker, 2)
        assert mine.get("k", lambda: "computed here", once="host") == "computed here"
        assert not writer.done()
    writer.result(SECONDS)
    assert load.result(SECONDS) == frozenset()


@one_database
def test_a_place_where_nothing_can_be_locked(
    make: Callable[..., CacheManager], files: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mine = make()
    Path(turns(mine)._directory).write_text("a file")
    assert mine.get("k", lambda: 1, once="host") == 1
    assert "cannot be locked" in caplog.text


# Forks


@one_database
def test_a_child_forked_in_the_retriever(make: Callable[..., CacheManager]) -> None:
    """It goes on with what its parent was about, and leaves the parent's lock alone."""
    mine, parent = make(), os.getpid()

    def retriever() -> bool:
        pid = os.fork()
        if pid:
            assert os.waitpid(pid, 0)[1] == 0
            return is_locked(mine, "host")
        return True

    try:
        found = mine.get("k", retriever, once="host")
    finally:
        if os.getpid() != parent:
            os._exit(0)
    assert found
    assert not is_locked(mine, "host")


@one_database
@pytest.mark.parametrize("lock", ["free", "held"])
def test_a_child_forked_while_another_thread_computes(
    make: Callable[..., CacheManager], lock: str
) -> None:
    """That thread is not there, and will never give its turn back."""
    mine = make(once_wait=LONG)
    gate, failed = Gate(), processes.Event()

    def failing() -> int:
        gate()
        raise ZeroDivisionError

    def child() -> list[Any]:
        signal.alarm(25)
        failed.wait()
        return [mine.get("k", lambda: 2, once="host"), mine.statistics.loads]

    with ThreadPoolExecutor() as pool:
        computing = pool.submit(mine.get, "k", failing, once="host")
        gate.wait()
        if lock == "held":
            with turns(mine)._lock:
                forked = fork(child)
        else:
            forked = fork(child)
        gate.open()
        with pytest.raises(ZeroDivisionError):
            computing.result(SECONDS)
        failed.set()
        assert forked.join() == [2, 1]


@one_database
def test_a_child_that_outlives_the_one_who_computes(
    worker: Worker, make: Callable[..., CacheManager], tmp_path: Path
) -> None:
    born = processes.Event()
    grandchild = processes.Value("i", 0)

    def retriever() -> None:
        if not os.fork():
            signal.alarm(25)
            grandchild.value = os.getpid()
            born.set()
        signal.pause()

    def child() -> None:
        mine = Worker(worker.database, tier=Directory(tmp_path)).cache_manager
        mine.get("k", retriever, once="host")

    found = fork(child)
    assert born.wait(SECONDS)
    os.kill(found.pid, signal.SIGKILL)
    os.waitpid(found.pid, 0)
    os.close(found.reader)
    try:
        assert make(tier=Directory(tmp_path)).get("k", lambda: 2, once="host") == 2
    finally:
        os.kill(grandchild.value, signal.SIGKILL)


# Coroutines


@pytest.fixture
def run(database: Database, shelf: Shelf) -> Iterator[Callable[[Any], Any]]:
    """Runs a coroutine function with an asynchronous manager."""

    def run_story(story: Callable[[CacheManager], Any], tier: Any = shelf) -> Any:
        async def whole() -> Any:
            engine = database.async_engine()
            manager = CacheManager(engine, tier=tier, once_wait=LONG)
            try:
                return await story(manager)
            finally:
                await manager.aclose()
                await engine.dispose()

        return contextvars.Context().run(asyncio.run, whole())

    return run_story


async def two() -> int:
    return 2


@both
@pytest.mark.on("sqlite-wal", "postgresql")
def test_a_coroutine_waits_and_the_loop_goes_on(
    make: Callable[..., CacheManager], run: Callable[[Any], Any], how: Once
) -> None:
    async def story(manager: CacheManager) -> int:
        holder = Holder(make(), how)
        reader = asyncio.create_task(manager.aget("k", two, once=how))
        while not manager._loader._flights._flights:
            await asyncio.sleep(0)
        cancelled = asyncio.create_task(manager.aget("k", two, once=how))
        await asyncio.sleep(0)
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        assert not reader.done()
        await asyncio.to_thread(holder.end)
        return await reader

    assert run(story) == 1


@both
@one_database
def test_cancelled(make: Callable[..., CacheManager], run: Callable[[Any], Any], how: Once) -> None:
    async def story(manager: CacheManager) -> None:
        started = asyncio.Event()

        async def for_ever() -> None:
            started.set()
            await asyncio.Event().wait()

        task = asyncio.create_task(manager.aget("k", for_ever, once=how))
        await started.wait()
        assert is_locked(other, how)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not is_locked(other, how)
        assert turns(manager)._taken == set()

    other = make()
    run(story)
    assert other.get("k", lambda: 3, once=how) == 3


@one_database
def test_cancelled_while_it_takes_the_lock(
    make: Callable[..., CacheManager],
    run: Callable[[Any], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gate, acquire = Gate(), Lock.acquire
    other = make()

    async def story(manager: CacheManager) -> None:
        monkeypatch.setattr(Lock, "acquire", lambda *arguments: (gate(), acquire(*arguments))[1])
        task = asyncio.create_task(manager.aget("k", two, once="cluster"))
        await asyncio.to_thread(gate.wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        gate.open()

    run(story)  # its end waits for the thread
    assert not is_locked(other, "cluster")


@one_database
@pytest.mark.filterwarnings("ignore:The Redis backend thread_local_lock")
def test_a_servers_lock_of_a_coroutine(
    make: Callable[..., CacheManager],
    run: Callable[..., Any],
    servers: Callable[[str], Server],
) -> None:
    """It is taken by one thread and released by another."""
    tier = Tier(on_server("redis", servers("redis").port, distributed_lock=True))
    other = make(tier=Tier(on_server("redis", servers("redis").port, distributed_lock=True)))

    async def story(manager: CacheManager) -> list[bool]:
        async def is_held() -> bool:
            # Two threads at a time: so the lock is not released by the one that took it.
            both = threading.Barrier(2)
            await asyncio.gather(*(asyncio.to_thread(both.wait, SECONDS) for _ in range(2)))
            return await asyncio.to_thread(is_locked, other, "cluster")

        asyncio.get_running_loop().set_default_executor(ThreadPerCall())
        return [await manager.aget("k", is_held, once="cluster")]

    assert run(story, tier) == [True]
    assert not is_locked(other, "cluster")
    tier.close()


class ThreadPerCall(ThreadPoolExecutor):
    """A new thread for each call."""

    def submit(self, function: Any, /, *arguments: Any, **more: Any) -> Future[Any]:
        return in_thread(lambda: function(*arguments, **more))
