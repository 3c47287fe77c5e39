"""Where the time of a request goes, step by step.

Each line is what the step takes altogether; the steps of one database are timed in turn, once by
the clock and once by the processor time of this process, which contains no waiting.  "Plain" is an
engine that no manager watches.  The difference of two lines is what the library adds: the second
and the first of a pair, or a request that knows its value and an empty one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from sqlalchemy import Column, Engine, Integer, MetaData, Table, bindparam, insert, select, update
from sqlalchemy.orm import Session

from coherent_cache import CacheManager, cached

from .databases import TITLES, available, fresh_database
from .hit import first_reads
from .ledgers import look, manager_on
from .measure import Case, call, measure, statement
from .registry import Options
from .tables import Cell, Row
from .tables import Table as Found

_page = Table(
    "page",
    MetaData(),
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("version", Integer, nullable=False),
)
_SELECT = select(_page.c.version).where(_page.c.id == bindparam("number"))
_UPDATE = update(_page).where(_page.c.id == 1).values(version=_page.c.version + 1)
_PAGES = 1_000

Timer = Callable[[], float]


def run(options: Options) -> Iterator[Found]:
    """Yield two tables: a line for each step, a column for each database."""
    kinds = available(options.databases, options.progress)
    for title, timer in (
        ("Microseconds of each step", time.perf_counter),
        ("Microseconds of processor time", time.process_time),
    ):
        columns = [_measure(options, kind, timer) for kind in kinds]
        lines: list[list[Cell]] = [
            [of_step[0].name, *(row.seconds * 1e6 for row in of_step)]
            for of_step in zip(*columns, strict=True)
        ]
        names = ("", *(TITLES[kind] for kind in kinds))
        yield Found(title, lines, columns=names, plot="")


def _measure(options: Options, kind: str, timer: Timer) -> list[Row]:
    with (
        fresh_database(kind) as database,
        manager_on(database) as manager,
        manager_on(database) as other,
    ):
        plain = database.engine()
        _page.metadata.create_all(plain)
        with plain.begin() as connection:
            rows = [{"id": number, "version": 1} for number in range(_PAGES)]
            connection.execute(insert(_page), rows)
        cases = list(_cases(manager, other, plain, timer))
        return measure(
            cases,
            reference=cases[0].name,
            rounds=options.rounds,
            seconds=0.02,
            progress=options.progress,
            title=f"steps: {TITLES[kind]}",
        )


def _cases(
    manager: CacheManager, other: CacheManager, plain: Engine, timer: Timer
) -> Iterator[Case]:
    class Page:
        def __init__(self, number: int, cache_manager: CacheManager = manager) -> None:
            self.number = number
            self.cache_manager = cache_manager

        @cached("number")
        def keyed(self) -> int:
            return _selected(self.cache_manager.engine, self.number)

    page, lost = Page(1), Page(1, other)
    pages = [Page(number) for number in range(_PAGES)]

    def opened() -> None:
        with manager.request():
            pass

    def known() -> None:
        with manager.request():
            page.keyed  # noqa: B018

    def loaded() -> None:
        other.evict()
        with other.request():
            lost.keyed  # noqa: B018

    def invalidated() -> None:
        with manager.begin() as connection:
            connection.execute(_UPDATE)
            del page.keyed

    yield Case("a request that reads nothing", call(opened, timer))
    yield Case("a check that finds nothing", call(lambda: look(manager), timer))
    yield Case("a request that reads one known value", call(known, timer))
    # With an engine that sessions have used, as in a request that has opened one.
    yield Case("the first read of each further one", first_reads(manager, pages))
    yield Case("a value read again", _inside(manager, page))
    yield Case("a SELECT through a session, plain", call(lambda: _selected(plain, 1), timer))
    yield Case("that SELECT, watched", call(lambda: _selected(manager.engine, 1), timer))
    yield Case("a request that loads a value by that SELECT", call(loaded, timer))
    yield Case("a transaction that updates a row, plain", call(_updating(plain), timer))
    yield Case("that transaction, watched", call(_updating(manager.engine), timer))
    yield Case("that transaction with a del", call(invalidated, timer))


def _inside(manager: CacheManager, page: object) -> Callable[[int], float]:
    again = statement("page.keyed", page=page)

    def timed(number: int) -> float:
        with manager.request():
            page.keyed  # type: ignore[attr-defined]  # noqa: B018
            return again(number)

    return timed


def _selected(engine: Engine, number: int) -> int:
    with Session(engine) as session:
        return int(session.scalar(_SELECT, {"number": number}) or 0)


def _updating(engine: Engine) -> Callable[[], None]:
    def work() -> None:
        with engine.begin() as connection:
            connection.execute(_UPDATE)

    return work
