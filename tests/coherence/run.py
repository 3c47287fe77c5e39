"""Starts the workers, judges the history that they wrote, and makes the figures."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from sqlalchemy import select

from coherent_cache import CacheManager

from ..databases import Database
from .application import item, metadata, record
from .checker import NAMES, Anomaly, Checker
from .crew import Crew
from .disturbers import Disturber
from .history import Event, read_logs
from .plan import Plan


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
    least: int = 0
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
    def hits(self) -> float:
        """The share of reads that needed no retriever call."""
        return 1 - self.calls / self.reads if self.reads else 0.0

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
        rows = [{"name": f"i{n}", "version": 0, "write_id": "start"} for n in range(items)]
        connection.execute(item.insert(), rows)
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
    prepare(database, plan.items)
    Crew(plan, processes, logs).run(database, disturbers, progress)
    engine = database.engine()
    with engine.connect() as connection:
        committed = frozenset(connection.scalars(select(record.c.write_id)))
    database.dispose()
    return judge(plan, processes, read_logs(logs), committed)


def judge(plan: Plan, processes: int, events: list[Event], committed: frozenset[str]) -> Verdict:
    """Judge *events* by the database's own record."""
    checker = Checker(events, committed)
    verdict = Verdict(plan, processes, reads=checker.reads, anomalies=checker.anomalies)
    verdict.writes = len(checker.writes)
    seen = set()
    for event in events:
        process = event.who.rpartition(".")[0]
        if event.what == "read":
            seen.add((process, event.name, event.parts))
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
        elif event.who == "fault":
            verdict.add(event.what)
    verdict.least = len(seen)
    return verdict


HEADER = (
    f"{'database':15} {'isolation':16} {'reads':>7} {'writes':>7} {'commits':>7} {'rolled':>6} "
    f"{'errors':>6} {'checks':>7} {'calls':>6} {'least':>6} {'hits':>6}  anomalies"
)


def row(verdict: Verdict) -> str:
    """One line of the table."""
    counts = verdict.counts
    found = ", ".join(f"{verdict.count(n)} {n}" for n in NAMES if verdict.count(n)) or "none"
    return (
        f"{verdict.plan.kind:15} {verdict.plan.isolation:16} {verdict.reads:7} "
        f"{verdict.writes:7} {verdict.commits:7} {counts.get('rollbacks', 0):6} "
        f"{counts.get('errors', 0):6} {verdict.checks:7} {verdict.calls:6} {verdict.least:6} "
        f"{verdict.hits:6.1%}  {found}"
    )
