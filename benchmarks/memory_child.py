"""The process that `benchmarks.memory` measures: ``memory_child SUBJECT ENTRIES HOW``."""

from __future__ import annotations

import gc
import json
import os
import sys
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import lru_cache
from typing import Any

from coherent_cache import cached
from coherent_cache.keys import make_key

from .databases import fresh_database
from .ledgers import manager_on

#: How many are read in one request: a view refers to what it has read until it ends.
_A_REQUEST = 1_000
_THREADS = 4

#: Reads entry *number*, whether it is known or not.
Read = Callable[[int], object]


def _value(number: int) -> str:
    """A small value that no two entries share."""
    return f"value {number:07}"


def _key(number: int) -> str:
    return make_key(f"{__name__}._ours.<locals>.Page.text", number)


@contextmanager
def _ours(entries: int) -> Iterator[tuple[Read, Callable[[], AbstractContextManager[Any]]]]:
    with (
        fresh_database("sqlite-wal") as database,
        manager_on(database, max_entries=entries) as manager,
    ):

        class Page:
            cache_manager = manager

            def __init__(self, number: int) -> None:
                self.number = number

            @cached("number")
            def text(self) -> str:
                return _value(self.number)

        yield lambda number: Page(number).text, manager.request


@contextmanager
def _dict(entries: int) -> Iterator[tuple[Read, Callable[[], AbstractContextManager[Any]]]]:
    known: dict[str, str] = {}

    def read(number: int) -> str:
        key = _key(number)
        return known.get(key) or known.setdefault(key, _value(number))

    yield read, _nothing


@contextmanager
def _lru_cache(entries: int) -> Iterator[tuple[Read, Callable[[], AbstractContextManager[Any]]]]:
    @lru_cache(maxsize=entries)
    def remembered(key: str) -> str:
        return f"value {key[-7:]}"  # as long as that of the others

    yield lambda number: remembered(_key(number)), _nothing


@contextmanager
def _cachetools(entries: int) -> Iterator[tuple[Read, Callable[[], AbstractContextManager[Any]]]]:
    import cachetools

    known: cachetools.LRUCache[str, str] = cachetools.LRUCache(entries)

    def read(number: int) -> str:
        key = _key(number)
        found = known.get(key)
        if found is None:
            found = known[key] = _value(number)
        return found

    yield read, _nothing


@contextmanager
def _nothing() -> Iterator[None]:
    yield


SUBJECTS = {
    "coherent_cache": _ours,
    "dict": _dict,
    "lru_cache": _lru_cache,
    "cachetools LRU": _cachetools,
}


def _memory(how: str) -> int:
    """Bytes of this process."""
    gc.collect()
    if how == "traced":
        return tracemalloc.get_traced_memory()[0]
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _read_all(read: Read, request: Any, entries: int) -> None:
    for start in range(0, entries, _A_REQUEST):
        with request():
            for number in range(start, min(start + _A_REQUEST, entries)):
                read(number)


def main(subject: str, entries: int, how: str) -> None:
    """Print, as JSON, bytes an entry, and an entry and thread."""
    with SUBJECTS[subject](entries) as (read, request):
        with request():  # what is made once is not the entries'
            read(entries)
        if how == "traced":
            tracemalloc.start()
        before = _memory(how)
        _read_all(read, request, entries)
        after = _memory(how)
        own = sum(
            sys.getsizeof(_key(number)) + sys.getsizeof(_value(number))
            for number in range(0, entries, 100)
        )
        ready, stop = threading.Barrier(_THREADS + 1), threading.Event()

        def work() -> None:
            _read_all(read, request, min(entries, 20 * _A_REQUEST))
            ready.wait()
            stop.wait()

        threads = [threading.Thread(target=work) for _ in range(_THREADS)]
        for thread in threads:
            thread.start()
        ready.wait()
        with_threads = _memory(how)
        stop.set()
        for thread in threads:
            thread.join()
    each = (after - before) / entries - own / len(range(0, entries, 100))
    print(json.dumps([each, max(0.0, (with_threads - after) / _THREADS / entries)]))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
