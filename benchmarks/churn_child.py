"""The process that `benchmarks.churn` watches: ``churn_child KIND URL SECONDS``."""

from __future__ import annotations

import json
import os
import statistics
import sys
import time

from sqlalchemy import make_url, text

from coherent_cache import CacheManager
from tests.databases import Database

from .ledgers import look, manager_on

_POINTS = 12


def main(kind: str, url: str, seconds: float) -> None:
    """Print one line of JSON for each point of the series."""
    database = Database(kind, make_url(url))
    with manager_on(database, max_entries=20_000) as worker, manager_on(database) as editor:
        start = time.monotonic()
        keys = 0
        for point in range(_POINTS + 1):
            while time.monotonic() - start < point * seconds / _POINTS:
                keys = _turn(worker, editor, keys)
            print(json.dumps(_look_around(worker, time.monotonic() - start, keys)), flush=True)


def _turn(worker: CacheManager, editor: CacheManager, keys: int) -> int:
    """Load 200 values of new keys, and invalidate 150 of them; return how many there were."""
    fresh = [f"benchmarks.Page.text:{number}" for number in range(keys, keys + 200)]
    for start in range(0, len(fresh), 10):
        with worker.request():
            for key in fresh[start : start + 10]:
                worker.get(key, _value)
    for key in fresh[:50]:
        with editor.begin():
            editor.invalidate(key)
    with editor.begin():
        for key in fresh[50:150]:
            editor.invalidate(key)
    return keys + len(fresh)


def _value() -> str:
    return "a value of a hundred characters or so" * 3


def _look_around(worker: CacheManager, seconds: float, keys: int) -> list[float]:
    look(worker)
    times = []
    for _ in range(50):
        start = time.perf_counter()
        look(worker)
        times.append(time.perf_counter() - start)
    with open("/proc/self/statm") as file:
        resident = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    with worker.engine.connect() as connection:
        rows = connection.scalar(text("SELECT COUNT(*) FROM cache")) or 0
    return [
        round(seconds),
        keys,
        round(resident / 2**20, 1),
        rows,
        worker.statistics.entries,
        round(statistics.median(times) * 1e6, 1),
    ]


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]))
