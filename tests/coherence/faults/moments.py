"""Exact moments inside a worker, for what cannot be timed from outside.

=================  ===============================================================================
a statement        before one of a transaction, or after it
ledger written     the rows of the ledger are written, COMMIT comes next
commit sent        COMMIT is on its way, and its answer is not read
commit returned    the server has committed, the application does not know yet
=================  ===============================================================================
"""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import event

from ...written import when_written
from ..workloads.worker import Inside
from .striking import quiet

BEFORE, AFTER = "before a statement", "after a statement"
WRITTEN, SENT, RETURNED = "ledger written", "commit sent", "commit returned"


@contextmanager
def at_moments(
    work: Inside, moments: list[str], every: float, action: Callable[[str], None]
) -> Iterator[None]:
    """Do *action* at *moments*, one after the other, *every* so many seconds on average, until the
    quiet time at the end of the run."""
    chance = random.Random(f"{work.plan.seed} {work.name} {moments}")
    end = work.until - quiet(work.plan)
    lock = threading.Lock()
    # A worker that has replaced another goes on where that one ended.
    upcoming = itertools.cycle(moments)
    for _ in range(1 + int(work.name.partition(".")[2])):
        wanted = next(upcoming)
    due = time.monotonic() + every * chance.uniform(0.3, 1.7)

    def is_due(moment: str) -> bool:
        nonlocal wanted, due
        now = time.monotonic()
        if moment != wanted or now < due or now > end:
            return False
        if not lock.acquire(blocking=False):
            return False  # another thread's moment; waiting is not for a process that forks
        try:
            is_mine = moment == wanted and now >= due
            if is_mine:
                wanted = next(upcoming)
                due = now + every * chance.uniform(0.3, 1.7)
            return is_mine
        finally:
            lock.release()

    def at(moment: str) -> None:
        if is_due(moment):
            action(moment)

    engine = work.env.cache_manager.engine
    dialect: Any = engine.dialect
    commit = dialect.do_commit

    def do_commit(pooled: Any) -> None:
        commit(pooled)
        at(RETURNED)

    def written(pooled: Any) -> None:
        at(WRITTEN)
        if is_due(SENT):
            _send_commit(work.plan.kind, pooled.dbapi_connection)
            action(SENT)

    listeners: list[tuple[str, Any]] = [
        ("before_cursor_execute", lambda *_: at(BEFORE)),
        ("after_cursor_execute", lambda *_: at(AFTER)),
    ]
    for name, listener in listeners:
        event.listen(engine, name, listener)
    dialect.do_commit = do_commit
    with when_written(engine, written):
        yield
    dialect.do_commit = commit
    for name, listener in listeners:
        event.remove(engine, name, listener)


def _send_commit(kind: str, raw: Any) -> None:
    """Let the server commit, without waiting for its answer."""
    if kind == "postgresql":
        raw.pgconn.send_query(b"COMMIT")
        raw.pgconn.flush()
    elif kind == "mariadb":
        raw._execute_command(3, "COMMIT")
    else:
        raw.commit()
