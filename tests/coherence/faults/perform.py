"""A run with faults, from the stage to the judgement."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.pool import NullPool

from ..history import read_logs
from ..plan import Plan
from ..run import Verdict, run
from ..tiers import TierPlace
from ..workloads.tables import record
from ..workloads.worker import workload_of
from .aftermath import Aftermath, aftermath
from .servers import Server
from .stage import Fault, staged


def perform(
    faults: Sequence[Fault],
    plan: Plan,
    processes: int = 2,
    progress: Callable[[str], None] = lambda line: None,
    *,
    server: Server | None = None,
    tier: TierPlace | None = None,
    logs: Path | None = None,
) -> tuple[Verdict, Aftermath]:
    """Run *plan* with *faults*; return what it came to, and what went on afterwards."""
    if workload_of(plan).is_async:
        raise ValueError(f"faults are for threads, not for the tasks of {plan.workload!r}")
    if logs is None:
        with tempfile.TemporaryDirectory() as directory:
            return perform(
                faults,
                plan,
                processes,
                progress,
                server=server,
                tier=tier,
                logs=Path(directory),
            )
    with staged(faults, plan, server, tier) as stage:
        verdict = run(stage.plan, processes, progress, disturbers=stage.disturbers, logs=logs)
        events = read_logs(logs)
        if stage.judge is not None:
            with stage.database.engine(poolclass=NullPool).connect() as connection:
                there = frozenset(connection.scalars(select(record.c.write_id)))
            verdict.anomalies = stage.judge(events, there)
            verdict.worst_lag = 0.0  # versions went back, so it says nothing
        return verdict, aftermath(events)
