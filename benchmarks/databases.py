"""The databases that benchmarks run on: fresh ones, dropped afterwards.

They are found as the tests find theirs (``COHERENT_CACHE_POSTGRESQL``, ``COHERENT_CACHE_MARIADB``).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.databases import Database, create_database, drop_database, sqlite_url, unavailable

from .progress import Progress

TITLES = {
    "sqlite-wal": "SQLite (WAL)",
    "sqlite-journal": "SQLite (rollback journal)",
    "postgresql": "PostgreSQL",
    "mariadb": "MariaDB",
}


def available(kinds: tuple[str, ...], progress: Progress) -> list[str]:
    """Those of *kinds* that answer; the others are named."""
    found = []
    for kind in kinds:
        reason = None if kind.startswith("sqlite") else unavailable(kind)
        if reason is None:
            found.append(kind)
        else:
            progress.step(f"left out: {reason}")
    return found


@contextmanager
def fresh_database(kind: str) -> Iterator[Database]:
    """An empty database of *kind*."""
    with tempfile.TemporaryDirectory(prefix="coherent_cache-") as directory:
        url = sqlite_url(Path(directory)) if kind.startswith("sqlite") else create_database(kind)
        database = Database(kind, url)
        try:
            yield database
        finally:
            database.dispose()
            if not database.is_sqlite:
                drop_database(kind, url)
