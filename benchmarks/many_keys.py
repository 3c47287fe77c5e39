"""A thousand keys invalidated in one transaction.

Beside it stands the same rows inserted by the driver, 500 to a statement, in a transaction of an
Engine that no manager watches.  What is wanted is at most 5 µs a key beyond that, ``del`` included.
Nothing is pruned meanwhile.  Of many rounds the shortest counts: what else the machine does only
adds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from sqlalchemy import Engine

from coherent_cache import CacheManager, cached
from coherent_cache.keys import key_hash

from .databases import TITLES, available, fresh_database
from .ledgers import manager_on
from .registry import Options
from .tables import Cell, Table

KEYS = 1_000
WANTED = 5.0  # µs a key
_A_STATEMENT = 500


class Page:
    """What is invalidated."""

    def __init__(self, manager: CacheManager, number: int) -> None:
        self.cache_manager = manager
        self.number = number

    @cached("number")
    def text(self) -> str:
        """Nobody reads it."""
        raise NotImplementedError


def run(options: Options) -> Iterator[Table]:
    """Yield one table, with a line for each database."""
    lines = [_measure(options, kind) for kind in available(options.databases, options.progress)]
    columns = (
        "µs a key",
        "driver",
        "del alone",
        "with the commit",
        "beyond the driver",
        "at most",
        "aim",
    )
    yield Table(f"{KEYS:,} keys in one transaction", lines, columns=columns, plot="")


def _measure(options: Options, kind: str) -> list[Cell]:
    with fresh_database(kind) as database, manager_on(database, prune_every=None) as manager:
        plain = database.engine()
        pages = [Page(manager, number) for number in range(KEYS)]
        dels: list[float] = []

        def invalidate() -> None:
            with manager.begin():
                start = time.perf_counter()
                for page in pages:
                    del page.text
                dels.append(time.perf_counter() - start)

        driver, ours = [], []
        for round_ in range(5 if options.quick else 31):
            options.progress.step(f"many_keys: {kind}, round {round_ + 1}")
            driver.append(_timed(lambda: _insert(plain)))
            ours.append(_timed(invalidate))
        a_key = 1e6 / KEYS
        best = [min(each) * a_key for each in (driver, dels, ours)]
        beyond = best[2] - best[0]
        return [
            TITLES[kind],
            *best,
            beyond,
            WANTED,
            "met" if beyond <= WANTED else "**missed**",
        ]


def _timed(function: Callable[[], None]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def _insert(engine: Engine) -> None:
    quote = engine.dialect.identifier_preparer.quote
    mark = "?" if engine.dialect.paramstyle == "qmark" else "%s"
    values = ", ".join([f"({mark}, {mark}, {mark}, {mark}, {mark})"] * _A_STATEMENT)
    statement = (
        f"INSERT INTO cache ({quote('key')}, key_hash, lane, position, token) VALUES {values}"
    )
    with engine.begin() as connection:
        cursor = connection.connection.cursor()
        for first in range(0, KEYS, _A_STATEMENT):
            parameters: list[Any] = []
            for number in range(first, first + _A_STATEMENT):
                key = f"benchmarks.many_keys.Page.text[{number}]"
                # A lane that no reader asks for, and not that of marks, which SQLite indexes.
                parameters += (key, key_hash(key), -2, 1, 1)
            cursor.execute(statement, parameters)
        cursor.close()
