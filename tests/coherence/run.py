"""Starts the workers, judges the history that they wrote, and makes the figures."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from sqlalchemy import select

from coherent_cache import CacheManager

from ..databases import Database
from .application import item, metadata, record
from .checker import NAMES, Anomaly, Checker
from .history import Event
from .workload import Plan, Report, work

#: How long a worker may take to end when its time is over, in seconds.
_GRACE = 60.0


@dataclass
class Verdict:
    """What a run came to."""

    plan: Plan
    processes: int
    reads: int = 0
    writes: int = 0
    commits: int = 0
    #: Retriever calls, and the least possible: each value that a process has seen had to be
    #: computed there once.
    calls: int = 0
    least: int = 0
    checks: int = 0
    anomalies: list[Anomaly] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)

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


def run(plan: Plan, processes: int, progress: Callable[[str], None] = lambda line: None) -> Verdict:
    """Run *plan* in *processes* workers and judge what they saw."""
    database = Database(plan.kind, plan.url)
    prepare(database, plan.items)
    reports = _run_workers(plan, processes, progress)
    engine = database.engine()
    with engine.connect() as connection:
        committed = frozenset(connection.scalars(select(record.c.write_id)))
    database.dispose()
    return _judge(plan, processes, reports, committed)


def _run_workers(plan: Plan, processes: int, progress: Callable[[str], None]) -> list[Report]:
    context = multiprocessing.get_context("spawn")
    done = context.Array("L", processes)
    start = context.Barrier(processes)
    pipes = [context.Pipe(duplex=False) for _ in range(processes)]
    workers = [
        context.Process(target=work, args=(plan, number, start, pipe[1], done), daemon=True)
        for number, pipe in enumerate(pipes)
    ]
    for worker, pipe in zip(workers, pipes, strict=True):
        worker.start()
        pipe[1].close()
    begun = time.monotonic()
    reports = []
    try:
        for receiver, _ in pipes:
            while not receiver.poll(0.5):
                passed = time.monotonic() - begun
                progress(f"{passed:.0f} s, {sum(done)} requests")
                if passed > plan.seconds + _GRACE:
                    raise TimeoutError("a worker did not come to an end")
            reports.append(receiver.recv())
            receiver.close()
    finally:
        for worker in workers:
            worker.join(5)
            if worker.is_alive():
                worker.kill()
                worker.join()
    for report in reports:
        if report.error:
            raise RuntimeError(f"a worker failed: {report.error}")
    return reports


def _judge(plan: Plan, processes: int, reports: list[Report], committed: frozenset[str]) -> Verdict:
    events: list[Event] = [event for report in reports for event in report.events]
    checker = Checker(events, committed)
    verdict = Verdict(plan, processes, reads=checker.reads, anomalies=checker.anomalies)
    for report in reports:
        for name, count in report.counts.items():
            verdict.counts[name] = verdict.counts.get(name, 0) + count
        seen = {(e.name, e.parts) for e in report.events if e.what == "read"}
        # What a sum is made of are values of their own.
        seen |= {(part.key, (part,)) for _, parts in seen for part in parts}
        verdict.least += len(seen)
    verdict.writes = len(checker.writes)
    verdict.commits = verdict.counts.get("commits", 0)
    verdict.calls = verdict.counts.get("loads", 0)
    verdict.checks = verdict.counts.get("checks", 0)
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
