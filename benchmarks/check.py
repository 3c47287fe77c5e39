"""A check that finds nothing new: what each request pays before it reads from memory.

The limit is the driver's own round trip: ``SELECT 1`` on a connection that is held, in autocommit
mode.  The reference is what an application pays for any query: ``SELECT 1`` through SQLAlchemy with
a connection from the pool and a transaction.  "On the same engine" is that with the listeners of
the library; "a request" is the check with all around it: a view is opened, one known value read,
and the view closed; on "one host" memory that its processes share shows that there is nothing to
ask.  The check must cost the same whether the ledger has a thousand keys or a
million.  On SQLite, which is part of the process, it is processor time.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Engine, text

from coherent_cache import CacheManager, OneHost, Strict, cached
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
                with manager_on(database) as manager, _on_one_host(database) as beside:
                    fill(database, keys)
                    rows = measure(
                        list(_cases(database, manager, beside)),
                        reference=_REFERENCE,
                        rounds=options.rounds,
                        seconds=0.02,
                        progress=options.progress,
                        title=f"check: {title}",
                    )
            yield Table(title, rows, reference=_REFERENCE)


@contextmanager
def _on_one_host(database: Database) -> Iterator[CacheManager]:
    """A manager that asks nothing while no process of this host commits."""
    with tempfile.TemporaryDirectory() as directory:
        there = OneHost(Path(directory, "announcements"))
        mode = Strict(shared_memory=True) if database.is_sqlite else there
        with manager_on(database, freshness=mode) as manager:
            yield manager


class _Site:
    def __init__(self, manager: CacheManager) -> None:
        self.cache_manager = manager
        self.title  # noqa: B018  (from here on the process knows it)

    @cached
    def title(self) -> str:
        return "a value"

    def request(self) -> None:
        with self.cache_manager.request():
            self.title  # noqa: B018


def _cases(database: Database, manager: CacheManager, beside: CacheManager) -> Iterator[Case]:
    timer = time.process_time if database.is_sqlite else time.perf_counter
    plain = database.engine()
    yield Case(_REFERENCE, _select(plain, timer))
    yield Case("SELECT 1 on the same engine", _select(manager.engine, timer))
    held = call(round_trip(plain), timer)
    yield Case("SELECT 1, driver's connection held", held, note="the limit")
    target = 0.2 if database.is_sqlite else 0.6
    yield Case("check", call(lambda: look(manager), timer), target)
    yield Case("a request", call(_Site(manager).request, timer))
    yield Case("a request, one host", call(_Site(beside).request, timer))


def _select(engine: Engine, timer: Timer) -> Timed:
    def select() -> None:
        with engine.connect() as connection:
            connection.execute(_SELECT).scalar()

    return call(select, timer)
