"""What a request of the small site of `load` takes under each cache, by kind of request.

Processor time of the one process that serves it, median of many, without a web server; and the
round trips that it makes to the database and to Redis, counted by a proxy in a run of its own.
*Known*: three values, all in the cache.  *After an edit*: another process has changed the page, and
nobody has read it since.  *Read by another*: and a third process has read it meanwhile.  *Edit*:
the request that changes a page.

With four workers an edit is followed by one request of the second kind; the other three meet the
third kind, if they have read the page before.  The limit is a request that finds everything in
memory and asks nobody: a dict that nobody tells of writes, in the tables of `load`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from statistics import mean, median
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from sqlalchemy import make_url

from tests.proxy import PASS, Proxy, proxied

from .databases import TITLES, available, fresh_database
from .load import REDIS, prepare, redis_answers, variants
from .registry import Options
from .tables import Cell, Table

KINDS = ("known", "after an edit", "read by another", "edit")
_PAGES = 8


def run(options: Options) -> Iterator[Table]:
    """Yield a table for each database."""
    rounds = 25 if options.quick else 100
    names = [name for name in variants.NAMES if "Redis" not in name or redis_answers(options)]
    names = [name for name in names if name not in variants.WRONG]
    for kind in available(options.databases, options.progress):
        rows: list[list[Cell]] = []
        for name in names:
            options.progress.step(f"requests: {TITLES[kind]}: {name}")
            times, trips = _of(kind, name, rounds)
            cells: list[Cell] = [name]
            for each in KINDS:
                cells += [median(times[each]) / 1e3, _trips(trips[each])]
            rows.append(cells)
        columns = ["", *(cell for each in KINDS for cell in (f"{each}, µs", "round trips"))]
        yield Table(
            f"A request of the small site, {TITLES[kind]}",
            rows,
            columns=columns,
            note="Round trips: to the database + to Redis.",
            plot="",
        )


def _trips(found: list[tuple[int, int]]) -> str:
    database, redis = (mean(each) for each in zip(*found, strict=True))
    return f"{database:.3g} + {redis:.3g}" if redis else f"{database:.3g}"


def _of(
    kind: str, name: str, rounds: int
) -> tuple[dict[str, list[float]], dict[str, list[tuple[int, int]]]]:
    with fresh_database(kind) as database, tempfile.TemporaryDirectory() as directory:
        environment = {
            "LOAD_DATABASE": database.url.render_as_string(hide_password=False),
            "LOAD_VARIANT": name,
            "LOAD_REDIS": REDIS,
            "LOAD_PREFIX": f"{uuid.uuid4().hex[:8]}:",
            "LOAD_INSTANCE": directory,
            "PYTHONWARNINGS": "ignore",
        }
        pages = prepare("benchmarks.load.site", environment)[:_PAGES]
        with _workers(environment, 3) as (measured, *others):
            times = _rounds(measured, others, pages, rounds)
        with ExitStack() as stack:
            counts, addresses = _counted(stack, kind, environment)
            (counted,) = stack.enter_context(_workers({**environment, **addresses}, 1))
            others = stack.enter_context(_workers(environment, 2))

            def ask(line: str) -> tuple[int, int]:
                before = counts()
                counted(line)
                after = counts()
                return after[0] - before[0], after[1] - before[1]

            trips = _rounds(ask, others, pages, 10)
    return times, trips


def _rounds(
    measured: Callable[[str], Any],
    others: list[Callable[[str], Any]],
    pages: list[str],
    rounds: int,
) -> dict[str, list[Any]]:
    editor, reader = others
    found: dict[str, list[Any]] = {each: [] for each in KINDS}
    for _ in range(2):  # each has read everything, and made its connections
        for page in pages:
            for ask in (measured, editor, reader):
                ask(f"GET /wiki/{page}")
                ask(f"POST /load/edit/{page}")
    for _ in range(rounds):
        for page in pages:
            show, edit = f"GET /wiki/{page}", f"POST /load/edit/{page}"
            editor(edit)
            found["after an edit"].append(measured(show))
            editor(edit)
            reader(show)
            found["read by another"].append(measured(show))
            found["known"].append(measured(show))
            found["edit"].append(measured(edit))
            measured(show)
    return found


@contextmanager
def _workers(environment: dict[str, str], number: int) -> Iterator[list[Callable[[str], float]]]:
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "benchmarks.load.one_worker"],
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(number)
    ]
    try:
        yield [_asking(process) for process in processes]
    finally:
        for process in processes:
            process.communicate()


def _asking(process: subprocess.Popen[str]) -> Callable[[str], float]:
    def ask(line: str) -> float:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(line + "\n")
        process.stdin.flush()
        return float(process.stdout.readline())

    return ask


def _counted(
    stack: ExitStack, kind: str, environment: dict[str, str]
) -> tuple[Callable[[], tuple[int, int]], dict[str, str]]:
    """How many messages went to the database and to Redis so far, by addresses that count them."""
    counts = [0, 0]

    def counting(which: int) -> Callable[[bytes], str]:
        def watch(_: bytes) -> str:
            counts[which] += 1
            return PASS

        return watch

    found = {}
    if not kind.startswith("sqlite"):
        url = make_url(environment["LOAD_DATABASE"])
        url, _ = stack.enter_context(proxied(url, watch=counting(0)))
        found["LOAD_DATABASE"] = url.render_as_string(hide_password=False)
    parts = urlsplit(environment["LOAD_REDIS"])
    redis = Proxy((parts.hostname or "127.0.0.1", parts.port or 6379), watch=counting(1))
    stack.callback(redis.close)
    found["LOAD_REDIS"] = urlunsplit(parts._replace(netloc=f"127.0.0.1:{redis.port}"))
    return lambda: (counts[0], counts[1]), found
