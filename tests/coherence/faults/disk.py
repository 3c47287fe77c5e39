"""SQLite: the disk is full for a while.

``PRAGMA max_page_count`` lets the file grow no further, with SQLite's own error for a disk that is
full (SQLITE_FULL); like that it is met by whatever needs a new page: the data, the ledger's rows in
the COMMIT, or neither.  Errors of the operating system while it writes are another matter.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, event

from ..workload import Work
from .stage import Stage
from .striking import Striking

_NO_LIMIT = 1 << 30


def _flag(path: str | None) -> Path:
    return Path(f"{path}.full")


class Disk(Striking):
    """Lets the disk be full, and then again not."""

    def __init__(self, path: str | None, every: float) -> None:
        super().__init__(every)
        self._flag = _flag(path)

    def strike(self) -> None:
        self.scene.did("full")
        self._flag.touch()
        self.rest(self.random.uniform(0.2, 0.5))
        self._flag.unlink()
        self.scene.did("free")


@contextmanager
def full(work: Work) -> Iterator[None]:
    """Transactions that begin while the disk is full do not let the file grow."""
    flag = _flag(work.plan.url.database)

    def limit(connection: Connection) -> None:
        raw = connection.connection.dbapi_connection
        assert raw is not None
        cursor = raw.cursor()
        pages = _NO_LIMIT
        if flag.exists():
            ((pages,),) = cursor.execute("PRAGMA page_count").fetchall()
        cursor.execute(f"PRAGMA max_page_count = {pages}").fetchall()
        cursor.close()

    engine = work.process.cache_manager.engine
    event.listen(engine, "begin", limit)
    yield
    event.remove(engine, "begin", limit)


@contextmanager
def disk(stage: Stage) -> Iterator[None]:
    stage.disturbers.append(Disk(stage.plan.url.database, 0.2))
    stage.within(full)
    yield
