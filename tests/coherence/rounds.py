"""One round: a database of its own, a workload, and perhaps faults."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from ..databases import Database, create_database, drop_database, sqlite_url
from .faults.catalogue import FAULTS
from .faults.perform import perform
from .plan import Plan
from .run import Verdict, run
from .tiers import tier_place


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
    tier: str = "",
    serializer: str = "typed",
    **plan: Any,
) -> Verdict:
    """Play one round and judge it; *tier* is a kind of `tiers`, *plan* are arguments of `Plan`."""
    with ExitStack() as stack:
        database = stack.enter_context(database_of(kind))
        place = stack.enter_context(tier_place(tier)) if tier else None
        text = place.text(serializer) if place else ""
        made = Plan(kind, database.url, isolation, tier=text, **plan)
        if not faults:
            return run(made, processes, progress, logs=logs)
        chosen = [FAULTS[name] for name in faults]
        verdict, _ = perform(chosen, made, processes, progress, logs=logs, tier=place)
        return verdict
