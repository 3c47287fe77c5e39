"""Four workers start with nothing in memory: what do a snapshot and a tier save them?

Each worker is a process that reads cached pages, ten in a request, as often as pages of a site are
read: a few very often, most seldom.  All workers start at once.  A page is computed by a query and
some rendering, about a millisecond.  *Calls* are those of the retriever, in all workers together;
the times go from the begin of the first request to the end of one, of the slowest worker, and are
medians of the rounds.  What is wanted: few calls, and a first request that does not pay
much for it.  Where there is a Redis the tier, dogpile.cache and Flask-Caching find there what was
computed before; the latter two without knowing whether it is still right.
"""

from __future__ import annotations

import html
import importlib.util
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

from sqlalchemy import text

from coherent_cache import CacheManager, cached

from . import storages
from .databases import TITLES, available, fresh_database
from .ledgers import manager_on
from .registry import Options
from .tables import Cell, Table

WORKERS = 4
PAGES = 2_000


class Body:
    """A page.  Not in the child's module: what a script defines has no name for others."""

    calls = 0

    def __init__(self, manager: CacheManager, number: int) -> None:
        self.cache_manager = manager
        self.number = number

    @cached("number")
    def rendered(self) -> str:
        """What takes about a millisecond."""
        return body_of(self.cache_manager, self.number)


def body_of(connections: Any, number: int) -> str:
    """Compute a page on a connection of *connections*."""
    Body.calls += 1
    with connections.connect() as connection:
        found = connection.scalar(text("SELECT body FROM body WHERE id = :id"), {"id": number})
    return "".join(f"<p>{html.escape(word)}</p>" for word in str(found).split() * 10)


def run(options: Options) -> Iterator[Table]:
    """Yield a table for each database."""
    requests, rounds = (20, 1) if options.quick else (300, 7)
    marks = (1, requests // 10, requests)
    for kind in available(options.databases, options.progress):
        with (
            fresh_database(kind) as database,
            tempfile.TemporaryDirectory() as directory,
            ExitStack() as stack,
        ):
            with manager_on(database) as manager, manager.begin() as connection:
                connection.execute(text("CREATE TABLE body (id INTEGER PRIMARY KEY, body TEXT)"))
                connection.execute(
                    text("INSERT INTO body VALUES (:id, :body)"),
                    [{"id": n, "body": f"word{n} " * 100} for n in range(PAGES)],
                )
            url = database.url.render_as_string(hide_password=False)
            ways = {"nothing": "nothing", "a snapshot": f"snapshot:{directory}/values"}
            if "redis" in storages.available(options.progress):
                port = stack.enter_context(storages.fresh_storage("redis")).port
                ways |= {
                    "the tier in Redis": f"tier:{port}",
                    "dogpile.cache in Redis": f"dogpile:{port}",
                }
                if importlib.util.find_spec("flask_caching") is not None:
                    ways["Flask-Caching in Redis"] = f"flask:{port}"
            for way in ways.values():
                _start(kind, url, way, requests, marks, save=True)  # what the last release left
            found: dict[str, list[list[float]]] = {name: [] for name in ways}
            for done in range(rounds):
                options.progress.step(f"{TITLES[kind]}: round {done + 1} of {rounds}")
                for name, way in ways.items():
                    found[name].append(_start(kind, url, way, requests, marks))
            rows: list[list[Cell]] = [
                [name, *(round(statistics.median(column), 1) for column in zip(*each, strict=True))]
                for name, each in found.items()
            ]
        yield Table(
            TITLES[kind],
            rows,
            columns=("with", "calls", *(f"to request {mark}, ms" for mark in marks)),
            plot="",
        )


def _start(
    kind: str, url: str, way: str, requests: int, marks: tuple[int, ...], *, save: bool = False
) -> list[float]:
    """Start the workers; return the calls of all, and the milliseconds of the slowest to each of
    *marks*."""
    command = [sys.executable, "-m", "benchmarks.restart_child", kind, url, way, str(requests)]
    children = [
        subprocess.Popen(
            [*command, str(worker), "save" if save else ""],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for worker in range(WORKERS)
    ]
    for child in children:  # all have imported what they need
        assert child.stdout is not None
        child.stdout.readline()
    answers = []
    for child in children:
        assert child.stdin is not None
        child.stdin.write("\n")
        child.stdin.flush()
    for child in children:
        answers.append(json.loads(child.communicate()[0]))
        if child.returncode:
            raise RuntimeError(f"a worker ended with {child.returncode}")
    slowest = [max(answer["times"][mark - 1] for answer in answers) * 1e3 for mark in marks]
    return [sum(answer["calls"] for answer in answers), *slowest]
