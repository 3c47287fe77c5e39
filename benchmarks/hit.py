"""A cached attribute that is read again, in memory, with the view of a request open.

The limit is one call of a function under `functools.lru_cache`, in the same run.  Beside it stand
what gives no coherency (`property`, `cached_property`) and the memory backends of other libraries.
"First read" is that of a value which the process knows, in a request that has looked at the ledger
already: the view takes it over from the store.  A thousand objects are read in turn, so beside it
stands an `lru_cache` called with as many arguments in turn; then thirty objects, which is what a
request reads, where the view's dictionaries have yet to grow; then a process with several managers,
where each object is asked for its own.  Processor time.

If the package that is imported has the compiled form, that stands beside the pure one; "first read"
is by the form in use.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property, lru_cache
from typing import Any

from coherent_cache import CacheManager, cached
from coherent_cache.hit import COMPILED

from .databases import fresh_database
from .measure import Case, Timed, measure, statement
from .registry import Options
from .rivals import rivals
from .tables import Table

_REFERENCE = "lru_cache"
_MANY = 1_000
_FEW = 30
_COMPILED_TARGET = 1.3


def run(options: Options) -> Iterator[Table]:
    """Yield the tables."""
    specialised = sys.version_info >= (3, 12)
    targets = {"singleton": 3.2 if specialised else 2.4, "keyed": 3.8 if specialised else 3.2}
    with _manager() as manager:
        cases = _cases(manager, targets)
        with manager.request():
            rows = measure(
                cases,
                reference=_REFERENCE,
                rounds=options.rounds,
                progress=options.progress,
                title="hit",
            )
    yield Table("A hit", rows, reference=_REFERENCE)


@contextmanager
def _manager() -> Iterator[CacheManager]:
    with fresh_database("sqlite-wal") as database:
        manager = CacheManager(database.engine())
        manager.create_table()
        yield manager
        manager.close()


def _cases(manager: CacheManager, targets: dict[str, float]) -> Sequence[Case]:
    class Site:
        cache_manager = manager

        @cached
        def singleton(self) -> object:
            return _VALUE

        @cached
        async def awaitable(self) -> object:
            return _VALUE

        @property
        def plain(self) -> object:
            return _VALUE

        @cached_property
        def kept(self) -> object:
            return _VALUE

    class Page:
        cache_manager = manager

        def __init__(self, name: str) -> None:
            self.name = name

        @cached("name")
        def keyed(self) -> object:
            return _VALUE

    @lru_cache
    def remembered() -> object:
        return _VALUE

    @lru_cache(maxsize=2 * _MANY)
    def remembered_by(name: str) -> object:
        return _VALUE

    site, page = Site(), Page("front")
    hits = [
        Case("singleton", statement("o.singleton", o=site), targets["singleton"]),
        Case("keyed", statement("o.keyed", o=page), targets["keyed"]),
    ]
    if COMPILED:
        hits = [*_pure(Site, Page, targets), *(_compiled(case) for case in hits)]
    pages = [Page(f"page {number}") for number in range(_MANY)]
    return [
        Case(_REFERENCE, statement("f()", f=remembered)),
        Case("lru_cache with an argument", statement("f('front')", f=remembered_by)),
        *hits,
        Case("awaitable", _awaiting(manager, site)),
        Case("first read in a request", first_reads(manager, pages, only=True), 15),
        Case(f"first read of {_FEW} in a request", first_reads(manager, pages[:_FEW], only=True)),
        Case("first read, one of several managers", first_reads(manager, pages, only=False)),
        Case(
            f"lru_cache with {_MANY:,} arguments in turn",
            _in_turn(remembered_by, [page.name for page in pages]),
        ),
        Case("property", statement("o.plain", o=site)),
        Case("cached_property", statement("o.kept", o=site)),
        *rivals(_VALUE),
    ]


_VALUE = ("a value",)


class _PureProperty(property):
    """What cached attributes inherit from in the pure form: the interpreter has a shorter way for
    `property` itself, but none for its subclasses."""


def _pure(site: Any, page: Any, targets: dict[str, float]) -> Iterator[Case]:
    """The hits of the attributes of these classes in the pure form."""
    for kind, name, arguments in ((site, "singleton", ()), (page, "keyed", ("front",))):
        pure = type(kind.__name__, (kind,), {name: _PureProperty(getattr(kind, name).fget)})
        yield Case(name, statement(f"o.{name}", o=pure(*arguments)), targets[name])


def _compiled(case: Case) -> Case:
    return replace(case, name=f"{case.name}, compiled", target=_COMPILED_TARGET)


def _awaiting(manager: CacheManager, site: Any) -> Timed:
    """An awaitable attribute, read in a request of its own in an event loop."""

    async def read(number: int) -> float:
        with manager.request():
            await site.awaitable
            start = time.process_time()
            for _ in range(number):
                await site.awaitable
            return time.process_time() - start

    return lambda number: asyncio.run(read(number))


def _in_turn(function: Callable[[str], object], names: list[str]) -> Timed:
    """The same for an ``lru_cache``: each name once, again and again."""

    def timed(number: int) -> float:
        took = 0.0
        for _ in range(-(-number // len(names))):
            start = time.process_time()
            for name in names:
                function(name)
            took += time.process_time() - start
        return took * number / (-(-number // len(names)) * len(names))

    return timed


def first_reads(manager: CacheManager, pages: list[Any], *, only: bool | None = None) -> Timed:
    """Each page once in a request that has looked at the ledger; opening it is not counted.

    *only* says whether the process has this manager alone, whatever was made by other benchmarks.
    """

    def timed(number: int) -> float:
        core = manager.core
        before = core.is_only
        if only is not None:
            core.is_only = only
        try:
            return read(number)
        finally:
            core.is_only = before

    def read(number: int) -> float:
        took = 0.0
        for _ in range(-(-number // len(pages))):
            with manager.request():
                _ = pages[0].keyed
                start = time.process_time()
                for page in pages:
                    _ = page.keyed
                took += time.process_time() - start
        # All pages were read; what was asked for is less.
        return took * number / (-(-number // len(pages)) * len(pages))

    return timed
