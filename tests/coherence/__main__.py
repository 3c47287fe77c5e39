"""``python -m tests.coherence``: run the workload, judge it, and print a table."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..databases import Database, create_database, drop_database, sqlite_url
from .broken import CACHES
from .plan import Plan
from .run import HEADER, row, run

LEVELS = {
    "sqlite-wal": ["DRIVER", "BEGIN", "IMMEDIATE"],
    "sqlite-journal": ["DRIVER", "BEGIN", "IMMEDIATE"],
    "postgresql": ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"],
    "mariadb": ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"],
}


@contextmanager
def database_of(kind: str) -> Iterator[Database]:
    """A database of its own for a run."""
    if kind.startswith("sqlite"):
        with tempfile.TemporaryDirectory() as directory:
            yield Database(kind, sqlite_url(Path(directory)))
        return
    url = create_database(kind)
    try:
        yield Database(kind, url)
    finally:
        drop_database(kind, url)


def show(line: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.coherence", description=__doc__)
    parser.add_argument("--database", choices=LEVELS, help="one database only")
    parser.add_argument("--isolation", help="one isolation level only (on SQLite how it begins)")
    parser.add_argument("--seconds", type=float, default=10.0, help="for each run")
    parser.add_argument("--processes", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--items", type=int, default=12, help="how many keys, a third is hot")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    parser.add_argument("--broken", choices=CACHES, default="", help="break the cache on purpose")
    parser.add_argument("--stories", type=int, default=3, help="how many anomalies are told")
    options = parser.parse_args()
    print(f"seed {options.seed}\n{HEADER}", flush=True)
    found = 0
    for kind, levels in LEVELS.items():
        if options.database not in (None, kind):
            continue
        for isolation in [options.isolation] if options.isolation else levels:
            with database_of(kind) as database:
                plan = Plan(
                    kind,
                    database.url,
                    isolation,
                    seconds=options.seconds,
                    threads=options.threads,
                    items=options.items,
                    seed=options.seed,
                    broken=options.broken,
                )
                verdict = run(
                    plan,
                    options.processes,
                    lambda line, at=f"{kind} {isolation}": show(f"{at}: {line}"),
                )
            show("")
            print(row(verdict), flush=True)
            for anomaly in verdict.anomalies[: options.stories]:
                print(anomaly, flush=True)
            found += len(verdict.anomalies)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
