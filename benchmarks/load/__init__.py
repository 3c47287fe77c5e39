"""An application under load, with each cache in turn, and how many answers were wrong.

`wrk` reads pages of four worker processes over loopback; 5 % of its requests write, a tenth of
those roll back.  Beside it a checker writes, and reads from any worker what it knows to be
committed: an answer that is older than a write whose response had returned before the request was
sent is wrong, and so is one that shows what was never committed (`load.checker`).  Two
applications: one with next to nothing around its data (`load.site`), under Flask and Starlette,
and the example, a wiki with templates and rendered texts.  The limit is what the server and the
framework can do at all.  trac.cache is Trac's own, on the application's session.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ..databases import TITLES, available, fresh_database
from ..registry import Options
from ..tables import Cell, Table
from . import variants
from .checker import Checker
from .serving import GTHREAD, SYNC, UVICORN, Server, serving

_REDIS = os.environ.get("COHERENT_CACHE_REDIS", "redis://127.0.0.1:6379/9")
_CONNECTIONS = 16

#: Application, the module that prepares it, how it is served.
_SETUPS = (
    ("a small site", "benchmarks.load.site", "benchmarks.load.flask_app", SYNC),
    ("a small site", "benchmarks.load.site", "benchmarks.load.flask_app", GTHREAD),
    ("a small site", "benchmarks.load.site", "benchmarks.load.starlette_app", UVICORN),
    ("the wiki", "benchmarks.load.wiki_app", "benchmarks.load.wiki_app", SYNC),
    ("the wiki", "benchmarks.load.wiki_app", "benchmarks.load.wiki_app", GTHREAD),
)
_COLUMNS = (
    *("", "requests/s", "p50, ms", "p99, ms", "failed"),
    *("wrong answers", "stale", "never committed", "answers checked"),
)


def run(options: Options) -> Iterator[Table]:
    """Yield a table for each application, server and database."""
    if shutil.which("wrk") is None:
        options.progress.step("left out: load needs wrk, which is not installed")
        return
    names = [name for name in variants.NAMES if "Redis" not in name or _redis_answers(options)]
    for kind in available(options.databases, options.progress):
        for application, preparing, app, server in _SETUPS:
            title = f"{application}, {server.name}, {TITLES[kind]}"
            if options.only not in title:
                continue
            rows: list[list[Cell]] = []
            for name in names:
                options.progress.step(f"load: {title}: {name}")
                rows.append([name, *_cell(options, kind, preparing, app, server, name)])
            yield Table(title, rows, columns=_COLUMNS, plot="load")


def _cell(
    options: Options, kind: str, preparing: str, app: str, server: Server, variant: str
) -> list[Cell]:
    seconds = 4 if options.quick else 15
    with fresh_database(kind) as database, tempfile.TemporaryDirectory() as directory:
        environment = {
            "LOAD_DATABASE": database.url.render_as_string(hide_password=False),
            "LOAD_VARIANT": variant,
            "LOAD_REDIS": _REDIS,
            "LOAD_PREFIX": f"{uuid.uuid4().hex[:8]}:",
            "LOAD_INSTANCE": directory,
            "PYTHONWARNINGS": "ignore",
        }
        paths = [quote(name, safe="") for name in _prepare(preparing, environment)]
        listed = Path(directory, "paths")
        listed.write_text("\n".join(paths) + "\n")
        with serving(server, app, environment) as port:
            _wrk(port, listed, 1)  # connections are opened, code is warm
            checker = Checker(port, paths)
            with _started_wrk(port, listed, seconds) as wrk:
                found = checker.run(seconds - 0.5)
                told = json.loads(wrk.communicate()[0].splitlines()[-1])
    return [
        round(told["requests"] / told["seconds"]),
        told["p50"],
        told["p99"],
        told["failed"] + found.failed,
        found.wrong,
        found.stale,
        found.never_committed,
        found.answers,
    ]


def _prepare(module: str, environment: Mapping[str, str]) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-m", module],
        env={**os.environ, **environment},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    names: list[str] = json.loads(done.stdout.splitlines()[-1])
    return names


def _started_wrk(port: int, paths: Path, seconds: float) -> subprocess.Popen[str]:
    script = Path(__file__).with_name("mix.lua")
    return subprocess.Popen(
        [
            *("wrk", "-t", "1", "-c", str(_CONNECTIONS), "-d", f"{round(seconds)}s"),
            *("-s", str(script), "--timeout", "10s", f"http://127.0.0.1:{port}", "--", str(paths)),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )


def _wrk(port: int, paths: Path, seconds: float) -> None:
    with _started_wrk(port, paths, seconds) as process:
        process.communicate()


def _redis_answers(options: Options) -> bool:
    try:
        import redis

        client: Any = redis.Redis.from_url(_REDIS)
        client.ping()
    except Exception as error:
        options.progress.step(f"left out: Redis: {error}")
        return False
    return True
