"""How many reads are answered from memory when not everything fits.

Two traces over 100,000 keys: reads by Zipf's law, and the same with a scan now and then that reads
what nobody asks for again.  The limit is Bélády's optimum, which knows the future: it drops what
is wanted latest.  Beside ours stand the policies of cachetools, theine and cachebox.
"""

from __future__ import annotations

import heapq
import importlib.util
import random
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate

from .databases import fresh_database
from .ledgers import manager_on
from .registry import Options
from .tables import Cell, Table

_KEYS = 100_000

#: Takes a trace and a size in entries, returns the share of hits.
Player = Callable[[Sequence[int], int], float]


def run(options: Options) -> Iterator[Table]:
    """Yield a table for each trace."""
    reads = 50_000 if options.quick else 300_000
    for title, trace in (("Zipf", zipf(reads)), ("Zipf with scans", with_scans(zipf(reads)))):
        rows: list[list[Cell]] = []
        for name, play in _players():
            line: list[Cell] = [name]
            for size in (1_000, 10_000):
                options.progress.step(f"eviction: {title}, {name}, {size:,} entries")
                line.append(play(trace, size) * 100)
            rows.append(line)
        columns = ("% hits with room for", "1,000 entries", "10,000 entries")
        yield Table(title, rows, columns=columns, plot="columns")


def zipf(reads: int) -> list[int]:
    """*reads* keys; the n-th most wanted is read n ** 0.9 times less often than the first."""
    weights = list(accumulate(1 / rank**0.9 for rank in range(1, _KEYS + 1)))
    return random.Random(7).choices(range(_KEYS), cum_weights=weights, k=reads)


def with_scans(trace: Sequence[int], length: int = 5_000) -> list[int]:
    """*trace* with a scan over *length* keys of its own after each 4 times as many reads."""
    mixed: list[int] = []
    fresh = _KEYS
    for start in range(0, len(trace), 4 * length):
        mixed.extend(trace[start : start + 4 * length])
        mixed.extend(range(fresh, fresh + length))
        fresh += length
    return mixed


def _players() -> Iterator[tuple[str, Player]]:
    yield "the optimum", _optimum
    yield "coherent_cache", _ours
    if importlib.util.find_spec("cachetools"):
        import cachetools

        yield "cachetools LRU", _mapping(cachetools.LRUCache)
        yield "cachetools LFU", _mapping(cachetools.LFUCache)
    if importlib.util.find_spec("cachebox"):
        import cachebox

        yield "cachebox LRU", _mapping(cachebox.LRUCache)
        yield "cachebox LFU", _mapping(cachebox.LFUCache)
    if importlib.util.find_spec("theine"):
        yield "theine W-TinyLFU", _theine


def _ours(trace: Sequence[int], size: int) -> float:
    with (
        fresh_database("sqlite-wal") as database,
        manager_on(database, max_entries=size) as manager,
    ):
        for number in trace:
            with manager.request():
                manager.get(f"benchmarks.Page.text:{number}", str)
        return 1 - manager.statistics.loads / len(trace)


def _mapping(make: Callable[[int], object]) -> Player:
    def play(trace: Sequence[int], size: int) -> float:
        known: dict[int, str] = make(size)  # type: ignore[assignment]
        hits = 0
        for number in trace:
            if known.get(number) is None:
                known[number] = "a value"
            else:
                hits += 1
        return hits / len(trace)

    return play


def _theine(trace: Sequence[int], size: int) -> float:
    import theine

    known: theine.Cache[int, str] = theine.Cache(size)
    hits = 0
    for number in trace:
        _, found = known.get(number)
        if found:
            hits += 1
        else:
            known.set(number, "a value")
    return hits / len(trace)


def _optimum(trace: Sequence[int], size: int) -> float:
    never = len(trace)
    next_use = [never] * len(trace)
    last: dict[int, int] = {}
    for at in range(len(trace) - 1, -1, -1):
        next_use[at] = last.get(trace[at], never)
        last[trace[at]] = at
    wanted_at: dict[int, int] = {}  # what is kept → when it is wanted next
    latest: list[tuple[int, int]] = []
    hits = 0
    for at, number in enumerate(trace):
        hits += number in wanted_at
        wanted_at[number] = next_use[at]
        heapq.heappush(latest, (-next_use[at], number))
        while len(wanted_at) > size:
            when, victim = heapq.heappop(latest)
            if wanted_at.get(victim) == -when:
                del wanted_at[victim]
    return hits / len(trace)
