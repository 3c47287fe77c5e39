"""Starts the workers, judges the history that they wrote, and makes the figures."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from sqlalchemy import select

from coherent_cache import CacheManager

from ..databases import Database
from .anomaly import Anomaly
from .checker import Checker
from .crew import Crew
from .disturbers import Disturber
from .history import Event, process_of, read_logs
from .plan import Plan
from .workloads.tables import item, metadata, note, record, start_rows
from .workloads.worker import workload_of


@dataclass
class Verdict:
    """What a run came to."""

    plan: Plan
    processes: int
    reads: int = 0
    writes: int = 0
    #: Retriever calls, and the least possible: each value that a process has seen had to be
    #: computed there once.
    calls: int = 0
    misses: int = 0
    least: int = 0
    #: How long the most outdated value that was read had been so, in milliseconds.  In the strict
    #: mode it was read by a request that had begun before.
    worst_lag: float = 0.0
    anomalies: list[Anomaly] = field(default_factory=list)
    #: What was written down to be added up, and what disturbers did.
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, name: str, number: int = 1) -> None:
        self.counts[name] = self.counts.get(name, 0) + number

    @property
    def commits(self) -> int:
        return self.counts.get("commits", 0)

    @property
    def checks(self) -> int:
        return self.counts.get("checks", 0)

    @property
    def tier_hits(self) -> int:
        """How many values were found in the tier, by requests."""
        return self.counts.get("tier-hits", 0)

    @property
    def hits(self) -> float:
        """The share of reads that were answered without a retriever call of their own."""
        return 1 - self.misses / self.reads if self.reads else 0.0

    def count(self, name: str) -> int:
        """How often the anomaly called *name* was found."""
        return sum(anomaly.name == name for anomaly in self.anomalies)


def prepare(database: Database, items: int) -> None:
    """Create the tables and the items."""
    engine = database.engine()
    CacheManager(engine).create_table()
    metadata.drop_all(engine)
    metadata.create_all(engine)
    with engine.begin() as connection:
        items_rows, notes_rows = start_rows(items)
        connection.execute(item.insert(), items_rows)
        connection.execute(note.insert(), notes_rows)
    database.dispose()


def run(
    plan: Plan,
    processes: int,
    progress: Callable[[str], None] = lambda line: None,
    *,
    disturbers: Sequence[Disturber] = (),
    logs: Path | None = None,
) -> Verdict:
    """Run *plan* in *processes* workers and judge what they saw.

    With *disturbers* workers may die, and the errors that they explain are counted.  The logs are
    left in the directory *logs* if it is given.
    """
    if logs is None:
        with tempfile.TemporaryDirectory() as directory:
            return run(plan, processes, progress, disturbers=disturbers, logs=Path(directory))
    tolerate = {*plan.tolerate, *(name for disturber in disturbers for name in disturber.errors)}
    plan = replace(plan, tolerate=tuple(sorted(tolerate)))
    database = Database(plan.kind, plan.url)
    prepare(database, workload_of(plan).items)
    Crew(plan, processes, logs).run(database, disturbers, progress)
    engine = database.engine()
    with engine.connect() as connection:
        committed = frozenset(connection.scalars(select(record.c.write_id)))
    database.dispose()
    return judge(plan, processes, read_logs(logs), committed)


def judge(plan: Plan, processes: int, events: list[Event], committed: frozenset[str]) -> Verdict:
    """Judge *events* by the database's own record."""
    checker = Checker(events, committed, bound=plan.bound)
    verdict = Verdict(plan, processes, reads=checker.reads, anomalies=checker.anomalies)
    verdict.writes = len(checker.writes)
    verdict.worst_lag = checker.worst_lag
    seen = set()
    loaded: dict[str, set[str]] = {}
    for event in events:
        process = process_of(event)
        if event.what == "read":
            seen.add((process, event.name, event.parts))
            verdict.misses += event.name in loaded.pop(event.who, ())
            # What a sum is made of are values of their own.
            seen |= {(process, part.key, (part,)) for part in event.parts}
        elif event.what == "count":
            name, _, number = event.name.partition(" ")
            verdict.add(name, int(number))
        elif event.what == "error":
            verdict.add("errors")
            verdict.add(f"error {event.name}")
        elif event.what == "load":
            verdict.calls += 1
            loaded.setdefault(event.who, set()).add(event.name)
        elif event.who == "fault":
            verdict.add(event.what)
    verdict.least = len(seen)
    return verdict
