"""A check that finds k keys invalidated since the last one, and one while others are at work.

The limit is the driver reading k rows of the same table by its index.  The store holds a value for
each of the k keys, and drops them.  The second table of a database has somebody who keeps a
transaction open while n others commit: a check after each of them must not read them all again.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator

from sqlalchemy import text

from coherent_cache import CacheManager
from tests.databases import Database

from .databases import TITLES, available, fresh_database
from .ledgers import look, manager_on
from .registry import Options
from .tables import Row, Table


def run(options: Options) -> Iterator[Table]:
    """Yield two tables for each database."""
    for kind in available(options.databases, options.progress):
        with (
            fresh_database(kind) as database,
            manager_on(database, max_entries=20_000) as reader,
            manager_on(database) as writer,
        ):
            rows = [
                _changes(options, database, reader, writer, k) for k in (1, 10, 100, 1_000, 10_000)
            ]
            yield Table(
                f"{TITLES[kind]}: k keys changed",
                rows,
                reference="the driver reading k rows",
                plot="",
            )
            yield Table(
                f"{TITLES[kind]}: while a transaction is kept open",
                list(_held(options, database, reader, writer)),
                columns=("commits since it began", "check, µs"),
                plot="lines",
            )


def _changes(
    options: Options, database: Database, reader: CacheManager, writer: CacheManager, k: int
) -> Row:
    keys = [f"benchmarks.Page.text:{number}" for number in range(k)]
    engine = database.engine()
    took, limits = [], []
    for _ in range(10):  # some drivers prepare what they have seen a few times
        look(reader)
    for round_ in range(3 if options.quick else 9):
        options.progress.step(f"news: {database.kind}, {k:,} keys, round {round_ + 1}")
        for key in keys:
            reader.get(key, str)
        with writer.begin():
            for key in keys:
                writer.invalidate(key)
        start = time.perf_counter()
        look(reader)
        took.append(time.perf_counter() - start)
        limits.append(_rows(engine, k))
    ratios = [mine / other for mine, other in zip(took, limits, strict=True)]
    engine.dispose()
    return Row(
        f"k = {k:,}",
        statistics.median(took),
        statistics.median(ratios),
        min(ratios),
        max(ratios),
        note=f"{statistics.median(took) / k * 1e6:.1f} µs a key",
    )


def _rows(engine: object, k: int) -> float:
    """The time that the driver takes for the newest *k* rows."""
    connection = engine.raw_connection()  # type: ignore[attr-defined]
    cursor = connection.cursor()
    key = "`key`" if engine.dialect.name == "mysql" else '"key"'  # type: ignore[attr-defined]
    cursor.execute("SELECT MAX(generation) FROM cache")
    ((newest,),) = cursor.fetchall()
    statement = (
        f"SELECT generation, token, position, {key} FROM cache WHERE generation > {newest - k}"
    )
    start = time.perf_counter()
    cursor.execute(statement)
    rows = cursor.fetchall()
    took = time.perf_counter() - start
    assert 1 <= len(rows) <= k
    connection.close()
    return took


def _held(
    options: Options, database: Database, reader: CacheManager, writer: CacheManager
) -> Iterator[tuple[int, float]]:
    engine = database.engine()
    with engine.connect() as held:
        if database.is_sqlite:  # where an open writer lets nobody else commit
            held.execute(text("SELECT COUNT(*) FROM cache")).scalar()
        else:
            held.execute(text("INSERT INTO cache_lane (value, token) VALUES (0, 0)"))
        done = 0
        steps = (0, 10, 100, 1_000) if options.quick else (0, 10, 100, 1_000, 5_000)
        for wanted in steps:
            options.progress.step(f"news: {database.kind}, a transaction is open, {wanted:,}")
            while done < wanted:
                with writer.begin():
                    writer.invalidate(f"benchmarks.Page.held:{done}")
                done += 1
                if done % 500 == 0:  # as a living process does
                    look(reader)
            look(reader)
            times = []
            for _ in range(15):
                start = time.perf_counter()
                look(reader)
                times.append(time.perf_counter() - start)
            yield wanted, statistics.median(times) * 1e6
    engine.dispose()
