"""An application under load, with each cache in turn, and how many answers were wrong.

`wrk` reads pages of four worker processes over loopback; 5 % of its requests write (0.5 % where the
title says so), a tenth of those roll back.  Beside it a checker writes, and reads from any worker
what it knows to be committed: an answer that is older than a write whose response had returned
before the request was sent is wrong, and so is one that shows what was never committed
(`load.checker`).  Two applications: one with next to nothing around its data (`load.site`), under
Flask and Starlette, and the example, a wiki with templates and rendered texts.  The limit is a dict
in each process that nobody tells of writes: as fast as can be, and wrong.  trac.cache is Trac's
own, on the application's session.  The servers run all at once and are loaded in turn, for seconds
at a time, so that what else the machine does meets them alike.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import quote

from ..databases import TITLES, available, fresh_database
from ..registry import Options
from ..tables import Cell, Table
from . import variants
from .checker import Checker
from .serving import GTHREAD, SYNC, UVICORN, Server, serving

REDIS = os.environ.get("COHERENT_CACHE_REDIS", "redis://127.0.0.1:6379/9")
_CONNECTIONS = 16


@dataclass(frozen=True)
class _Setup:
    """What is loaded: an application, the module that prepares it, and the server."""

    application: str
    preparing: str
    app: str
    server: Server
    #: Share of the requests that write.
    writes: float = 0.05

    def title(self, kind: str) -> str:
        """The title of its table."""
        rarely = "" if self.writes == 0.05 else f", {self.writes:.1%} writes"
        return f"{self.application}, {self.server.name}, {TITLES[kind]}{rarely}"


_SITE = ("a small site", "benchmarks.load.site", "benchmarks.load.flask_app")
_TWIN = ("a small site", "benchmarks.load.site", "benchmarks.load.starlette_app")
_WIKI = ("the wiki", "benchmarks.load.wiki_app", "benchmarks.load.wiki_app")
_SETUPS = (
    _Setup(*_SITE, SYNC),
    _Setup(*_SITE, GTHREAD),
    _Setup(*_TWIN, UVICORN),
    _Setup(*_WIKI, SYNC),
    _Setup(*_WIKI, GTHREAD),
    _Setup(*_SITE, GTHREAD, writes=0.005),
)
_COLUMNS = (
    *("", "requests/s", "× no cache", "min", "max", "p50, ms", "p99, ms", "failed"),
    *("wrong answers", "stale", "never committed", "answers checked"),
)


def run(options: Options) -> Iterator[Table]:
    """Yield a table for each application, server and database."""
    if shutil.which("wrk") is None:
        options.progress.step("left out: load needs wrk, which is not installed")
        return
    names = [name for name in variants.NAMES if "Redis" not in name or redis_answers(options)]
    for kind in available(options.databases, options.progress):
        for setup in _SETUPS:
            title = setup.title(kind)
            if options.only in title:
                with ExitStack() as stack:
                    sites = [
                        stack.enter_context(_site(options, setup, kind, name)) for name in names
                    ]
                    rows = _race(options, title, sites)
                yield Table(title, rows, columns=_COLUMNS, plot="load")


@dataclass
class _Site:
    """A server that is running, and what was seen of it, a figure a round."""

    name: str
    port: int
    listed: Path
    writes: float
    checker: Checker
    told: list[dict[str, float]]

    def round(self, seconds: int) -> None:
        """Load it for *seconds* and check it meanwhile."""
        with _wrk(self.port, self.listed, seconds, self.writes) as wrk:
            self.checker.run(seconds - 0.3)
            self.told.append(json.loads(wrk.communicate()[0].splitlines()[-1]))

    def rate(self, number: int) -> float:
        """Requests a second in a round."""
        return self.told[number]["requests"] / self.told[number]["seconds"]


def _race(options: Options, title: str, sites: list[_Site]) -> list[list[Cell]]:
    """Load the servers in turn: what else the machine does meets all of them alike."""
    rounds, seconds = (3, 2) if options.quick else (5, 4)
    for number in range(rounds):
        for site in sites:
            options.progress.step(f"load: {title}: round {number + 1} of {rounds}, {site.name}")
            site.round(seconds)
    reference = next(site for site in sites if site.name == variants.NAMES[0])
    return [_row(site, reference) for site in sites]


def _row(site: _Site, reference: _Site) -> list[Cell]:
    rounds = range(len(site.told))
    ratios = [site.rate(n) / reference.rate(n) for n in rounds]
    found = site.checker.found
    return [
        site.name,
        round(median(site.rate(n) for n in rounds)),
        *(median(ratios), min(ratios), max(ratios)),
        *(median(told[which] for told in site.told) for which in ("p50", "p99")),
        round(sum(told["failed"] for told in site.told)) + found.failed,
        *(found.wrong, found.stale, found.never_committed, found.answers),
    ]


@contextmanager
def _site(options: Options, setup: _Setup, kind: str, variant: str) -> Iterator[_Site]:
    options.progress.step(f"load: {setup.title(kind)}: starting {variant}")
    with fresh_database(kind) as database, tempfile.TemporaryDirectory() as directory:
        environment = {
            "LOAD_DATABASE": database.url.render_as_string(hide_password=False),
            "LOAD_VARIANT": variant,
            "LOAD_REDIS": REDIS,
            "LOAD_PREFIX": f"{uuid.uuid4().hex[:8]}:",
            "LOAD_INSTANCE": directory,
            "PYTHONWARNINGS": "ignore",
        }
        paths = [quote(name, safe="") for name in prepare(setup.preparing, environment)]
        listed = Path(directory, "paths")
        listed.write_text("\n".join(paths) + "\n")
        with serving(setup.server, setup.app, environment) as port:
            # Each worker gets to know most pages.
            with _wrk(port, listed, 3 if options.quick else 6, setup.writes) as wrk:
                wrk.communicate()
            yield _Site(variant, port, listed, setup.writes, Checker(port, paths), [])


def prepare(module: str, environment: Mapping[str, str]) -> list[str]:
    """Let *module* fill the database; the names of its pages."""
    done = subprocess.run(
        [sys.executable, "-m", module],
        env={**os.environ, **environment},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    names: list[str] = json.loads(done.stdout.splitlines()[-1])
    return names


def _wrk(port: int, paths: Path, seconds: int, writes: float) -> subprocess.Popen[str]:
    script = Path(__file__).with_name("mix.lua")
    return subprocess.Popen(
        [
            *("wrk", "-t", "1", "-c", str(_CONNECTIONS), "-d", f"{seconds}s"),
            *("-s", str(script), "--timeout", "10s", f"http://127.0.0.1:{port}", "--"),
            *(str(paths), str(time.time_ns() % 1_000_000), str(writes)),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )


def redis_answers(options: Options) -> bool:
    """Whether there is a Redis; if not that is told."""
    try:
        import redis

        client: Any = redis.Redis.from_url(REDIS)
        client.ping()
    except Exception as error:
        options.progress.step(f"left out: Redis: {error}")
        return False
    return True
