"""SQLite: the disk is full for a while.

``PRAGMA max_page_count`` lets the file grow no further, with SQLite's own error for a disk that is
full (SQLITE_FULL); like that it is met by whatever needs a new page: the data, the ledger's rows in
the COMMIT, or neither.  Errors of the operating system while it writes are another matter.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, event

from ..workloads.worker import Inside
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
def full(work: Inside) -> Iterator[None]:
    """Some transactions that begin while the disk is full cannot let the file grow; others find it
    full when their data are written and the ledger's rows come next."""
    flag = _flag(work.plan.url.database)
    chance = random.Random(f"{work.plan.seed} {work.name} full")
    manager: Any = work.env.cache_manager
    core = manager.core
    write_keys = core.write_keys

    def limit(execute: Callable[[str], Any], *, full: bool) -> None:
        pages = _NO_LIMIT
        if full:
            ((pages,),) = execute("PRAGMA page_count")
        execute(f"PRAGMA max_page_count = {pages}")

    def at_begin(connection: Connection) -> None:
        raw: Any = connection.connection.dbapi_connection
        is_full = flag.exists() and chance.random() < 0.3
        limit(lambda statement: raw.execute(statement).fetchall(), full=is_full)

    def before_the_ledger(execute: Any, keys: Sequence[str], lane: Any) -> None:
        is_full = flag.exists()
        limit(lambda statement: execute(statement, ()).rows, full=is_full)
        # Long enough that it is the ledger that needs another page.
        more = ["a key of the application's " + "x" * 3000] if is_full else []
        write_keys(execute, [*keys, *more], lane)

    # What is pruned leaves free pages, and the ledger would never need a new one.
    manager.prune = lambda **_: 0
    core.write_keys = before_the_ledger
    event.listen(manager.engine, "begin", at_begin)
    yield
    event.remove(manager.engine, "begin", at_begin)
    del manager.prune, core.write_keys


@contextmanager
def disk(stage: Stage) -> Iterator[None]:
    stage.disturbers.append(Disk(stage.plan.url.database, 0.2))
    stage.within(full)
    yield
