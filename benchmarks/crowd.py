"""Requests of one process that begin at the same time share checks.

The limit is one check a round trip, however many requests there are.  Each of the threads opens a
view, reads one known value and closes the view, over and over; the statements that reach the ledger
are counted.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

from coherent_cache import CacheManager, cached

from .databases import TITLES, available, fresh_database
from .ledgers import look, manager_on
from .registry import Options
from .tables import Cell, Table


def run(options: Options) -> Iterator[Table]:
    """Yield a table for each database."""
    for kind in available(options.databases, options.progress):
        rows: list[list[Cell]] = []
        with fresh_database(kind) as database, manager_on(database) as manager:
            for threads in (1, 2, 8, 32):
                options.progress.step(f"crowd: {TITLES[kind]}, {threads} threads")
                checks, requests, took = _storm(manager, threads, 1 if options.quick else 3)
                rows.append([threads, checks / requests, requests / took])
        yield Table(
            f"{TITLES[kind]}: checks a request",
            rows,
            columns=("threads", "checks a request", "requests a second"),
            note="At 32 threads at most 0.2 are wanted.",
            plot="lines",
        )


def _storm(manager: CacheManager, threads: int, seconds: float) -> tuple[int, int, float]:
    class Site:
        cache_manager = manager

        @cached
        def title(self) -> str:
            return "a value"

    site = Site()
    site.title  # noqa: B018
    look(manager)
    checks = _Count(manager)
    done = [0] * threads
    together = threading.Barrier(threads + 1)
    stop = threading.Event()

    def work(number: int) -> None:
        together.wait()
        while not stop.is_set():
            with manager.request():
                site.title  # noqa: B018
            done[number] += 1

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    together.wait()
    start = time.perf_counter()
    stop.wait(seconds)
    stop.set()
    for worker in workers:
        worker.join()
    took = time.perf_counter() - start
    checks.remove()
    return checks.made, sum(done), took


class _Count:
    """Counts the readings of a manager's ledger."""

    def __init__(self, manager: CacheManager) -> None:
        self.made = 0
        read = manager.core.ledger.read

        def counted(*arguments: Any) -> Any:
            self.made += 1
            return read(*arguments)

        self._attributes = vars(manager.core.ledger)
        self._attributes["read"] = counted  # before that of the class

    def remove(self) -> None:
        """Count no more."""
        del self._attributes["read"]
