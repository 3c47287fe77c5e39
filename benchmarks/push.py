"""Push: how far an idle process is behind, and what telling it costs the writers.

*Lag*: another process reads nothing; from COMMIT's return here until its store has dropped the
value there.  The limit is the way of a message, a NOTIFY and a look: three round trips.  (With
`Bounded` an idle process is behind until it is asked.)  *Writers*: 16 threads of one process update
a row each and invalidate a key each, with a manager that is strict, one with `Push`, and a strict
one whose application sends the NOTIFY in its transaction, which `Push` does not do.  They take
turns; a ratio compares a phase with the mean of the two strict ones around it.  *Requests* open
a view, read one known value and close it.  All with ``Push(seconds=2)``, on PostgreSQL.
"""

from __future__ import annotations

import multiprocessing
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from sqlalchemy import Engine, bindparam, create_engine, make_url, text

from coherent_cache import CacheManager, Push, Strict, cached
from tests.databases import Database

from .databases import TITLES, available, fresh_database
from .measure import Case, call, measure
from .registry import Options
from .tables import Cell, Table
from .writers import metadata, page

WRITERS = 16
_MODE = Push(seconds=2.0)
_UPDATE = page.update().where(page.c.id == bindparam("which")).values(version=page.c.version + 1)


class Pages:
    """What is cached."""

    def __init__(self, manager: CacheManager, name: int) -> None:
        self.cache_manager = manager
        self.name = name

    @cached("name")
    def one(self) -> int:
        """A key for each."""
        return self.name


def run(options: Options) -> Iterator[Table]:
    """Yield the lag, the writers and the requests."""
    if "postgresql" not in available(options.databases, options.progress):
        return
    with fresh_database("postgresql") as database:
        engine = database.engine()
        CacheManager(engine).create_table()
        metadata.create_all(engine)
        with engine.begin() as connection:
            connection.execute(page.insert(), [{"id": n, "version": 0} for n in range(WRITERS)])
        options.progress.step("push: lag")
        yield _lag(database, 100 if options.quick else 1_000)
        options.progress.step(f"push: {WRITERS} writers")
        yield _writers(database, *((3, 0.4) if options.quick else (15, 1.0)))
        options.progress.step("push: requests")
        yield _requests(database, options)


def _lag(database: Database, commits: int) -> Table:
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe()
    url = database.url.render_as_string(hide_password=False)
    child = spawn.Process(target=_idle, args=(url, there), daemon=True)
    child.start()
    manager = CacheManager(database.engine(), freshness=_MODE)
    lags = []
    try:
        here.recv()
        for number in range(-5, commits):
            manager.invalidate("key")
            returned = time.monotonic()
            heard = here.recv()
            if number >= 0:
                lags.append(max(0.0, heard - returned) * 1e3)
    finally:
        manager.close()
        child.terminate()
        child.join()
    of_hundred = statistics.quantiles(lags, n=100)
    return Table(
        f"{TITLES['postgresql']}: an idle process is behind, ms",
        [[statistics.median(lags), of_hundred[89], of_hundred[98], max(lags)]],
        columns=("median", "9 in 10 below", "99 in 100 below", "longest"),
        note=f"{commits:,} commits, each after the last was heard of.",
        plot="",
    )


def _idle(url: str, out: Any) -> None:
    """Another process: it only tells when its store has dropped the key."""
    manager = CacheManager(create_engine(make_url(url)), freshness=_MODE)
    store = manager.core.store
    apply, waiting = store.apply, [True]

    def applied(news: Any) -> None:
        apply(news)
        now = time.monotonic()
        if "key" in news.keys:
            out.send(now)
        elif waiting and threading.current_thread() is not threading.main_thread():
            waiting.clear()
            out.send(now)

    store.apply = applied  # type: ignore[method-assign]
    manager.get("key", lambda: 1)
    threading.Event().wait()


def _writers(database: Database, rounds: int, seconds: float) -> Table:
    def engine() -> Engine:
        return database.engine(pool_size=WRITERS)

    strict = CacheManager(engine(), freshness=Strict())
    pushed = CacheManager(engine(), freshness=_MODE)
    modes: dict[str, tuple[CacheManager, bool]] = {
        "strict": (strict, False),
        "push": (pushed, False),
        "NOTIFY in the transaction": (strict, True),
    }
    for manager, within in modes.values():
        _write(manager, within, 0.2)
    rates: dict[str, list[float]] = {name: [] for name in modes}
    ratios: dict[str, list[float]] = {name: [] for name in modes}
    before = _write(*modes["strict"], seconds)
    for _ in range(rounds):
        for name in list(modes)[1:]:
            rate = _write(*modes[name], seconds)
            after = _write(*modes["strict"], seconds)
            rates[name].append(rate)
            ratios[name].append(rate / ((before + after) / 2))
            rates["strict"].append(after)
            before = after
    pushed.close()
    strict.close()
    rows: list[list[Cell]] = [["strict", statistics.median(rates["strict"]), 1.0, ""]]
    for name in list(modes)[1:]:
        found = ratios[name]
        spread = f"{min(found):.2f}–{max(found):.2f}"
        rows.append([name, statistics.median(rates[name]), statistics.median(found), spread])
    return Table(
        f"{TITLES['postgresql']}: {WRITERS} threads that invalidate",
        rows,
        columns=("", "commits/s", "× strict", "min–max"),
        plot="",
    )


def _write(manager: CacheManager, within: bool, seconds: float) -> float:
    """Commits a second of all threads together."""
    notify = text("NOTIFY within")
    done = [0] * WRITERS
    together = threading.Barrier(WRITERS + 1)
    stop = threading.Event()

    def work(number: int) -> None:
        pages = Pages(manager, number)
        together.wait()
        while not stop.is_set():
            with manager.begin() as connection:
                connection.execute(_UPDATE, {"which": number})
                del pages.one
                if within:
                    connection.execute(notify)
            done[number] += 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(WRITERS)]
    for thread in threads:
        thread.start()
    together.wait()
    start = time.perf_counter()
    time.sleep(seconds)
    stop.set()
    for thread in threads:
        thread.join()
    return sum(done) / (time.perf_counter() - start)


def _requests(database: Database, options: Options) -> Table:
    strict = CacheManager(database.engine(), freshness=Strict())
    pushed = CacheManager(database.engine(), freshness=_MODE)
    rows = measure(
        [
            Case("strict", call(_request(strict))),
            Case("push", call(_request(pushed)), note="asks nothing"),
        ],
        reference="strict",
        rounds=options.rounds,
        seconds=0.05,
        progress=options.progress,
        title="push: requests",
    )
    strict.close()
    pushed.close()
    return Table(f"{TITLES['postgresql']}: a request", rows, reference="strict")


def _request(manager: CacheManager) -> Callable[[], None]:
    pages = Pages(manager, 1)

    def request() -> None:
        with manager.request():
            pages.one  # noqa: B018

    request()
    return request
