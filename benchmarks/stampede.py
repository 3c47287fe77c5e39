"""A value is invalidated and many want it at once: who computes it, and when do all have it?

Four processes of eight threads read one key at the same moment, just after it was invalidated (with
the others: deleted).  The retriever takes 200 ms and is counted.  The time is from the moment they
all begin until the last one has the value.  What is wanted: one call, and not much more than its
200 ms.  Threads and processes are more than the machine has cores; what waits costs none.

Redis is found by ``COHERENT_CACHE_REDIS``; nothing of it is flushed.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import uuid
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from .databases import TITLES, available, fresh_database
from .registry import Options
from .stampede_child import CASES, Answer, Place, main
from .tables import Cell, Table

PROCESSES, THREADS = 4, 8
#: Seconds that the retriever takes.
WORK = 0.2

_REDIS = os.environ.get("COHERENT_CACHE_REDIS", "redis://127.0.0.1:6379/9")


def run(options: Options) -> Iterator[Table]:
    """Yield a table for each database."""
    if not _redis_answers(options):
        return
    rounds = 3 if options.quick else 15
    for kind in available(options.databases, options.progress):
        rows: list[list[Cell]] = []
        with fresh_database(kind) as database:
            url = database.url.render_as_string(hide_password=False)
            for case in CASES:
                options.progress.step(f"stampede: {TITLES[kind]}: {case}")
                place = Place(kind, url, _REDIS, f"stampede-{uuid.uuid4().hex[:12]}", WORK)
                rows.append([case, *_stampede(case, place, rounds)])
        yield Table(
            f"{TITLES[kind]}: {PROCESSES} processes of {THREADS} threads",
            rows,
            columns=(
                "",
                "retriever calls, median",
                "most",
                "until all have it, ms, median",
                "least",
                "most ms",
            ),
            plot="",
        )


def _stampede(case: str, place: Place, rounds: int) -> list[Cell]:
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(PROCESSES * THREADS, timeout=60)
    answers: Any = context.Queue()
    children = [
        context.Process(
            target=main, args=(case, place, number == 0, THREADS, rounds + 1, barrier, answers)
        )
        for number in range(PROCESSES)
    ]
    for child in children:
        child.start()
    found: dict[int, list[Answer]] = defaultdict(list)
    for _ in children:
        for number, answer in enumerate(answers.get(timeout=300)):
            found[number].append(answer)
    for child in children:
        child.join()
    del found[0]  # connections are made in the first round
    calls = [sum(answer.calls for answer in each) for each in found.values()]
    times = [
        (max(answer.end for answer in each) - min(answer.begin for answer in each)) * 1000
        for each in found.values()
    ]
    return [
        round(statistics.median(calls)),
        max(calls),
        round(statistics.median(times)),
        round(min(times)),
        round(max(times)),
    ]


def _redis_answers(options: Options) -> bool:
    try:
        import redis

        client: Any = redis.Redis.from_url(_REDIS)
        return bool(client.ping())
    except Exception as error:
        options.progress.step(f"stampede is left out: {error}")
        return False
