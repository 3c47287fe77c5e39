"""One round: a database of its own, a workload, and perhaps faults."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..databases import Database, create_database, drop_database, sqlite_url
from .faults.catalogue import FAULTS
from .faults.perform import perform
from .plan import Plan
from .run import Verdict, run


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


def play(
    kind: str,
    isolation: str,
    processes: int,
    progress: Callable[[str], None],
    *,
    faults: Sequence[str] = (),
    logs: Path | None = None,
    **plan: Any,
) -> Verdict:
    """Play one round and judge it; *plan* are arguments of `Plan`."""
    with database_of(kind) as database:
        made = Plan(kind, database.url, isolation, **plan)
        if not faults:
            return run(made, processes, progress, logs=logs)
        chosen = [FAULTS[name] for name in faults]
        verdict, _ = perform(chosen, made, processes, progress, logs=logs)
        return verdict
