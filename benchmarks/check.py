"""A check that finds nothing new: what each request pays before it reads from memory.

The limit is the driver's own round trip: ``SELECT 1`` on a connection that is held, in autocommit
mode.  The reference is what an application pays for any query: ``SELECT 1`` through SQLAlchemy with
a connection from the pool and a transaction.  "On the same engine" is that with the listeners of
the library; "a request" is the check with all around it: a view is opened, one known value read,
and the view closed.  The check must cost the same whether the ledger has a thousand keys or a
million.  On SQLite, which is part of the process, it is processor time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from sqlalchemy import Engine, text

from coherent_cache import CacheManager, cached
from tests.databases import Database

from .databases import TITLES, available, fresh_database
from .ledgers import fill, look, manager_on
from .measure import Case, Timed, call, measure
from .registry import Options
from .round_trip import round_trip
from .tables import Table

_REFERENCE = "SELECT 1 from the pool"
_SELECT = text("SELECT 1")

Timer = Callable[[], float]


def run(options: Options) -> Iterator[Table]:
    """Yield a table for each database and size of the ledger."""
    for kind in available(options.databases, options.progress):
        for keys in (1_000, 100_000 if options.quick else 1_000_000):
            title = f"{TITLES[kind]}, {keys:,} keys"
            with fresh_database(kind) as database:
                options.progress.step(f"check: {title}: filling the table")
                with manager_on(database) as manager:
                    fill(database, keys)
                    rows = measure(
                        list(_cases(database, manager)),
                        reference=_REFERENCE,
                        rounds=options.rounds,
                        seconds=0.02,
                        progress=options.progress,
                        title=f"check: {title}",
                    )
            yield Table(title, rows, reference=_REFERENCE)


def _cases(database: Database, manager: CacheManager) -> Iterator[Case]:
    class Site:
        cache_manager = manager

        @cached
        def title(self) -> str:
            return "a value"

    site = Site()
    site.title  # noqa: B018  (from here on the process knows it)

    def request() -> None:
        with manager.request():
            site.title  # noqa: B018

    timer = time.process_time if database.is_sqlite else time.perf_counter
    plain = database.engine()
    yield Case(_REFERENCE, _select(plain, timer))
    yield Case("SELECT 1 on the same engine", _select(manager.engine, timer))
    held = call(round_trip(plain), timer)
    yield Case("SELECT 1, driver's connection held", held, note="the limit")
    target = 0.2 if database.is_sqlite else 0.6
    yield Case("check", call(lambda: look(manager), timer), target)
    yield Case("a request", call(request, timer))


def _select(engine: Engine, timer: Timer) -> Timed:
    def select() -> None:
        with engine.connect() as connection:
            connection.execute(_SELECT).scalar()

    return call(select, timer)
