"""A value that is not in the process: found in the tier, or computed and put there.

The limit of a hit in the tier is one round trip of the driver (the key's generation) and one GET
of the storage's client; both are timed alone as well, and behind the figures of a row stands how
many of each it takes.  A hit is one of fifty in a request, so that the request's own check counts
little; "a request of its own" has a check for each.  A miss is the first read of a new key whose
retriever does nothing: without a tier that is all there is.  With one the tier is asked before, and
after it the generation is read again, the ledger is looked at and the value is put: the limit is
three round trips, a GET and a SET.

dogpile.cache (`region.get_or_create`) and Flask-Caching (`memoize`) do the same on the same server,
without coherency, and unpickle what they find.  Flask-Caching has no way to memcached without a
library in C.  The value is a text of 2 kB, which the tier compresses and authenticates.  "The
parts" are what a hit does, one after the other.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from coherent_cache import CacheManager, cached
from coherent_cache.tier import Envelope, Tier, TypedSerializer
from tests.databases import Database

from . import storages
from .databases import TITLES, available, fresh_database
from .ledgers import look, manager_on
from .measure import Case, Timed, call, measure
from .registry import Options
from .round_trip import round_trip
from .storages import Storage, fresh_storage
from .tables import Row, Table
from .tier_rivals import Rival, rivals

_REFERENCE = "SELECT 1 and a GET"
_SELECT = "SELECT 1, driver's connection held"
_GET = "a GET, by its client"
_KEY = b"a secret of sixteen bytes or more"
_BATCH = 50
_OF_A_SERVER = 10e-6  # seconds that a round trip takes at least
_VALUE = (17, "published", "A sentence of a text that is long enough to be one. " * 40)


class _Page:
    """Not in a function: the values of such a class stay in the process."""

    def __init__(self, manager: CacheManager, name: str) -> None:
        self.cache_manager = manager
        self.name = name

    @cached("name")
    def content(self) -> tuple[int, str, str]:
        return _VALUE


def run(options: Options) -> Iterator[Table]:
    """Yield a table for each database and storage, and one of the parts for each database."""
    kinds = storages.available(options.progress)
    for database_kind in available(options.databases, options.progress):
        for kind in kinds:
            title = f"{storages.TITLES[kind]} beside {TITLES[database_kind]}"
            with fresh_database(database_kind) as database, fresh_storage(kind) as storage:
                yield Table(title, _whole(options, title, database, storage), reference=_REFERENCE)
                if kind == kinds[0]:
                    title += ": the parts"
                    rows = _parts(options, title, database, storage)
                    yield Table(title, rows, reference=_REFERENCE)


def _whole(options: Options, title: str, database: Database, storage: Storage) -> list[Row]:
    with ExitStack() as stack:
        tier = Tier(storage.region("ours"), keys=[_KEY])
        stack.callback(tier.close)
        ours = stack.enter_context(manager_on(database, tier=tier))
        alone = stack.enter_context(manager_on(database))
        others = [stack.enter_context(each) for each in rivals(storage, _VALUE)]
        cases = [
            *_limits(database, storage),
            *_of_ours(ours, alone),
            *(case for other in others for case in _of_a_rival(other)),
        ]
        rows = measure(
            cases,
            reference=_REFERENCE,
            rounds=options.rounds,
            seconds=0.02,
            progress=options.progress,
            title=f"tier: {title}",
        )
    return _noted(rows)


def _limits(database: Database, storage: Storage) -> Iterator[Case]:
    select = round_trip(database.engine())
    get = storage.get("alone", str(_VALUE).encode())

    def both() -> None:
        select()
        get()

    yield Case(_SELECT, call(select))
    yield Case(_GET, call(get))
    yield Case(_REFERENCE, call(both))


def _of_ours(ours: CacheManager, alone: CacheManager) -> Iterator[Case]:
    pages = [_Page(ours, f"page-{number}") for number in range(_BATCH)]
    for page in pages:
        page.content  # noqa: B018  (from here on the tier has it)

    def fifty() -> None:
        ours.evict()
        with ours.request():
            for page in pages:
                page.content  # noqa: B018

    def hits(number: int) -> float:
        loads = ours.statistics.loads
        took = _in_fifties(fifty, number)
        assert ours.statistics.loads == loads, "some were not in the tier"
        return took

    def one() -> None:
        ours.evict()
        with ours.request():
            pages[0].content  # noqa: B018

    yield Case("hit in the tier", hits)
    yield Case("hit in the tier, a request of its own", call(one))
    yield Case("miss without a tier", _misses(alone))
    yield Case("miss with a tier", _misses(ours))


def _misses(manager: CacheManager) -> Timed:
    numbers = itertools.count()

    def fifty() -> None:
        with manager.request():
            for each in itertools.islice(numbers, _BATCH):
                manager.get(f"a key of a usual length {each}", lambda: _VALUE)

    return lambda number: _in_fifties(fifty, number)


def _in_fifties(fifty: Callable[[], None], number: int) -> float:
    """What *number* take, of those that *fifty* does fifty of."""
    rounds = max(1, round(number / _BATCH))
    start = time.perf_counter()
    for _ in range(rounds):
        fifty()
    return (time.perf_counter() - start) / (rounds * _BATCH) * number


def _of_a_rival(rival: Rival) -> Iterator[Case]:
    numbers = itertools.count()
    rival.get("known")
    yield Case(f"{rival.name}: hit", call(lambda: rival.get("known")))
    yield Case(f"{rival.name}: miss", call(lambda: rival.get(f"new-{next(numbers)}")))


def _parts(options: Options, title: str, database: Database, storage: Storage) -> list[Row]:
    region = storage.region("parts")
    tier = Tier(region, keys=[_KEY])
    envelope = Envelope(application="parts", serializer=TypedSerializer(), keys=[_KEY])
    address: dict[str, Any] = {"key": "k", "variant": "", "generation": "0" * 30}
    payload = envelope.seal("k", "", "0" * 30, {}, _VALUE)
    with manager_on(database, tier=tier) as manager:
        manager.get("k", lambda: _VALUE)
        generation = manager.generation("k")
        assert generation is not None
        access = manager.core.access
        functions: dict[str, Callable[[], object]] = {
            "check": lambda: look(manager),
            "the generation": lambda: access.generations(["k"], ()),
            "Tier.find": lambda: tier.find("k", "", generation),
            "of that: opening the payload": lambda: envelope.open(payload, **address),
            "at a put: sealing it": lambda: envelope.seal("k", "", "0" * 30, {}, _VALUE),
        }
        rows = measure(
            [*_limits(database, storage), *(Case(n, call(f)) for n, f in functions.items())],
            reference=_REFERENCE,
            rounds=options.rounds,
            seconds=0.02,
            progress=options.progress,
            title=f"tier: {title}",
        )
        tier.close()
    return _noted(rows)


def _noted(rows: list[Row]) -> list[Row]:
    """Say of each how many GETs it takes, and how many round trips if the database is a server."""
    took = {row.name: row.seconds for row in rows}

    def note(row: Row) -> str:
        ratios = [f"{row.seconds / took[_GET]:.1f} GET"]
        if took[_SELECT] > _OF_A_SERVER:
            ratios.append(f"{row.seconds / took[_SELECT]:.1f} SELECT 1")
        return ", ".join(ratios)

    return [row if row.name in (_SELECT, _GET) else replace(row, note=note(row)) for row in rows]
