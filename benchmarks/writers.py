"""Writers: what invalidating costs a transaction, and what 16 of them cost each other.

Servers are its own (PostgreSQL, MariaDB with its binary log, SQLite in WAL mode), all with an fsync
of one millisecond (`slow_disk`).  Writers are processes; each transaction updates one row of the
writer's own, by SQLAlchemy Core.  In one run they take turns between

- *plain*: an Engine that no manager watches,
- *watched*: a manager watches, nothing is invalidated,
- *distinct*: ``del`` of an attribute with a key of the writer's own in each transaction,
- *one*: ``del`` of the same attribute by all.

A ratio compares a phase with the mean of the two plain ones around it.  The limit is *plain*: 1.0.
On SQLite a phase lasts four times as long: in a short one the plain writers do not fill a WAL, and
so make no checkpoint, which they make as well in life.
The failures are those of writers that read their row before they write it; what counts is how many
more there are than without invalidation.
"""

from __future__ import annotations

import itertools
import multiprocessing
import shutil
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import (
    URL,
    Column,
    Integer,
    MetaData,
    Table,
    bindparam,
    create_engine,
    event,
    insert,
    make_url,
    select,
    text,
    update,
)
from sqlalchemy.exc import DBAPIError

from coherent_cache import CacheManager, cached

from . import slow_disk
from .databases import TITLES
from .registry import Options
from .slow_servers import missing_program, slow_server
from .tables import Cell
from .tables import Table as Found

WRITERS = 16
#: The ratios that are aimed at.
WANTED = {
    "sqlite-wal": {"distinct": 0.85, "one": 0.85},
    "postgresql": {"distinct": 0.7, "one": 0.6},
    "mariadb": {"distinct": 0.6, "one": 0.6},
}
LEVELS = {
    "sqlite-wal": ("SERIALIZABLE",),
    "postgresql": ("REPEATABLE READ", "SERIALIZABLE"),
    "mariadb": ("REPEATABLE READ", "SERIALIZABLE"),
}
MODES = ("plain", "watched", "distinct", "one")
ROWS_OF_A_WRITER = 100

metadata = MetaData()
page = Table(
    "page",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("version", Integer, nullable=False),
)
_write = update(page).where(page.c.id == bindparam("which")).values(version=page.c.version + 1)
_read = select(page.c.version).where(page.c.id == bindparam("which"))


class Pages:
    """What the writers invalidate."""

    def __init__(self, manager: CacheManager, name: int) -> None:
        self.cache_manager = manager
        self.name = name

    @cached
    def all(self) -> int:
        """One key for everybody."""
        raise NotImplementedError

    @cached("name")
    def one(self) -> int:
        """A key for each writer."""
        raise NotImplementedError


def engine_for(url: URL, **options: Any) -> Any:
    """An engine, as an application would make it."""
    if url.get_backend_name() == "mysql":
        options["connect_args"] = {"ssl_disabled": True}
    if url.get_backend_name() == "sqlite":
        options["connect_args"] = {"timeout": 60}
    engine = create_engine(url, **options)
    if engine.dialect.name == "sqlite":

        @event.listens_for(engine, "connect")
        def configure(connection: Any, record: Any) -> None:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")

    return engine


class Writer:
    """One process: an engine nobody watches, and one with a manager."""

    def __init__(self, url: URL, number: int, isolation: str | None) -> None:
        options = {} if isolation is None else {"isolation_level": isolation}
        self.plain = engine_for(url, **options)
        self.managed = engine_for(url, **options)
        self.pages = Pages(CacheManager(self.managed), number)
        self.first = number * ROWS_OF_A_WRITER
        self.reads = isolation is not None

    def run(self, mode: str, seconds: float) -> tuple[int, int]:
        """Write until *seconds* have passed; return commits and failures."""
        engine = self.plain if mode == "plain" else self.managed
        pages = self.pages
        rows = itertools.cycle(range(self.first, self.first + ROWS_OF_A_WRITER))
        commits = failures = 0
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            which = {"which": next(rows)}
            try:
                with engine.begin() as connection:
                    if self.reads:
                        connection.execute(_read, which).all()
                    connection.execute(_write, which)
                    if mode == "distinct":
                        del pages.one
                    elif mode == "one":
                        del pages.all
                commits += 1
            except DBAPIError:
                failures += 1
        return commits, failures


def _writer(
    url: str,
    number: int,
    isolation: str | None,
    phases: list[tuple[str, float]],
    gate: Any,
    out: Any,
) -> None:
    writer = Writer(make_url(url), number, isolation)
    writer.run("plain", 0.1)
    writer.run("distinct", 0.1)
    for index, (mode, seconds) in enumerate(phases):
        gate.wait()
        start = time.perf_counter()
        commits, failures = writer.run(mode, seconds)
        out.put((index, commits, failures, time.perf_counter() - start))


def run_writers(
    url: URL, writers: int, phases: list[tuple[str, float]], isolation: str | None = None
) -> list[tuple[float, int, int]]:
    """Return commits per second, commits and failures of each phase, all writers together."""
    spawn = multiprocessing.get_context("spawn")
    gate, out = spawn.Barrier(writers), spawn.Queue()
    text_url = url.render_as_string(hide_password=False)
    processes = [
        spawn.Process(target=_writer, args=(text_url, n, isolation, phases, gate, out))
        for n in range(writers)
    ]
    for process in processes:
        process.start()
    rates = [0.0] * len(phases)
    commits, failures = [0] * len(phases), [0] * len(phases)
    for _ in range(writers * len(phases)):
        index, committed, failed, seconds = out.get(timeout=300)
        rates[index] += committed / seconds
        commits[index] += committed
        failures[index] += failed
    for process in processes:
        process.join()
    return list(zip(rates, commits, failures, strict=True))


@contextmanager
def database(kind: str, milliseconds: float = slow_disk.MILLISECONDS) -> Iterator[URL]:
    """A fresh database of a server of our own, its fsync slowed down, with the tables in it."""
    library = slow_disk.build()
    slow = slow_disk.environment(library, milliseconds)
    try:
        with slow_server(kind, slow) as url:
            engine = engine_for(url)
            metadata.create_all(engine)
            with engine.begin() as connection:
                rows = [{"id": n, "version": 0} for n in range(64 * ROWS_OF_A_WRITER)]
                connection.execute(insert(page), rows)
            CacheManager(engine).create_table()
            with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                if kind == "postgresql":
                    connection.execute(text("VACUUM ANALYZE"))
            engine.dispose()
            yield url
    finally:
        shutil.rmtree(library.parent, ignore_errors=True)


def throughput(url: URL, writers: int, rounds: int, seconds: float) -> dict[str, list[float]]:
    """Return, for each mode, its ratio to *plain* in each round, and the rate of *plain*."""
    # Each phase between two of *plain*, so that what drifts cancels out.
    phases = [("plain", seconds)]
    for _ in range(rounds):
        for mode in MODES[1:]:
            phases += [(mode, seconds), ("plain", seconds)]
    rates = [rate for rate, _, _ in run_writers(url, writers, phases)]
    found: dict[str, list[float]] = {mode: [] for mode in MODES}
    found["plain"] = rates[::2]
    for index in range(1, len(phases), 2):
        found[phases[index][0]].append(rates[index] / ((rates[index - 1] + rates[index + 1]) / 2))
    return found


def added_failures(url: URL, writers: int, isolation: str, seconds: float) -> dict[str, float]:
    """Return failures per 1,000 commits of each mode."""
    modes = ("plain", "distinct", "one")
    results = run_writers(url, writers, [(mode, seconds) for mode in modes], isolation)
    return {
        mode: failures * 1000 / max(commits, 1)
        for mode, (_, commits, failures) in zip(modes, results, strict=True)
    }


def run(options: Options) -> Iterator[Found]:
    """Yield for each database how fast 16 writers are, and how many of 8 fail."""
    rounds, seconds = (2, 0.4) if options.quick else (5, 1.0)
    for kind in options.databases:
        missing = missing_program(kind)
        if missing is not None:
            options.progress.step(f"writers: {kind} left out: {missing}")
            continue
        with database(kind) as url:
            options.progress.step(f"writers: {kind}, {WRITERS} writers")
            phase = 4 * seconds if kind == "sqlite-wal" else seconds
            yield _speed(kind, throughput(url, WRITERS, rounds, phase))
            lines: list[list[Cell]] = []
            for level in LEVELS[kind]:
                options.progress.step(f"writers: {kind}, failures at {level}")
                found = added_failures(url, 8, level, seconds * 3)
                added = [found[mode] - found["plain"] for mode in MODES[2:]]
                lines.append([level, *(f"{each:.2f}" for each in (found["plain"], *added))])
            columns = ("isolation", "plain", "added, distinct keys", "added, one key")
            title = f"{TITLES[kind]}: failures per 1,000 commits, 8 writers"
            yield Found(title, lines, columns=columns, plot="")


def _speed(kind: str, found: dict[str, list[float]]) -> Found:
    lines: list[list[Cell]] = []
    for mode in MODES[1:]:
        ratio = statistics.median(found[mode])
        wanted = WANTED[kind].get(mode)
        met = None if wanted is None else "met" if ratio >= wanted else "**missed**"
        spread = f"{min(found[mode]):.2f}–{max(found[mode]):.2f}"
        lines.append([mode, ratio, spread, wanted, met])
    plain = found["plain"]
    return Found(
        f"{TITLES[kind]}: {WRITERS} writers",
        lines,
        columns=("", "× plain", "min–max", "at least", "aim"),
        note=f"Plain: {_summary(plain)} commits/s.",
        plot="",
    )


def _summary(values: list[float]) -> str:
    return f"{statistics.median(values):.0f} ({min(values):.0f}–{max(values):.0f})"
