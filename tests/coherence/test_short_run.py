"""The workload in a short form: a few seconds on each database at each isolation level."""

from __future__ import annotations

import os
import time

import pytest

from ..databases import Database
from .application import SQLITE_BEGINS
from .broken import CACHES
from .checker import (
    ABORTED,
    LOST_OWN_WRITE,
    STALE,
    UNCOMMITTED,
    UNSTABLE,
)
from .plan import Plan
from .run import HEADER, Verdict, row, run

SECONDS = float(os.environ.get("COHERENT_CACHE_RUN_SECONDS", "2"))

LEVELS = {
    "sqlite": list(SQLITE_BEGINS),
    "postgresql": ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"],
    "mariadb": ["READ COMMITTED", "REPEATABLE READ"],
}


def run_on(
    database: Database, isolation: str, broken: str = "", seconds: float = SECONDS
) -> Verdict:
    seed = int(os.environ.get("COHERENT_CACHE_RUN_SEED", time.time_ns() % 1_000_000))
    plan = Plan(database.kind, database.url, isolation, seconds=seconds, seed=seed, broken=broken)
    verdict = run(plan, processes=2)
    print(f"seed {seed}\n{HEADER}\n{row(verdict)}")  # shown if the test fails
    for anomaly in verdict.anomalies[:3]:
        print(anomaly)
    return verdict


@pytest.mark.parametrize("number", range(3))
def test_nothing_is_wrong_and_little_is_computed(database: Database, number: int) -> None:
    levels = LEVELS["sqlite" if database.is_sqlite else database.kind]
    if number >= len(levels):
        return
    verdict = run_on(database, levels[number])
    assert verdict.anomalies == []
    assert verdict.reads > 50
    assert verdict.commits > 2
    # Not as few as possible, since loads meet with invalidations; but not one for each read.
    invalidations = verdict.writes + verdict.counts.get("prunings", 0)
    keys = verdict.plan.items * 2
    assert verdict.calls <= 3 * (invalidations + keys) * verdict.processes
    assert verdict.calls <= 3 * verdict.least


#: What a cache that is broken in some way is convicted of.
CONVICTED = {
    "publish-dirty": {UNCOMMITTED, ABORTED},
    "check-seldom": {STALE},
    "publish-old": {STALE},
    "forget-between-reads": {UNSTABLE},
    "keep-after-rollback": {ABORTED},
    "show-the-old-one": {LOST_OWN_WRITE},
}


@pytest.mark.on("sqlite-wal")
@pytest.mark.parametrize("broken", CONVICTED)
def test_a_broken_cache_is_convicted(database: Database, broken: str) -> None:
    verdict = run_on(database, "DRIVER", broken, seconds=1)
    assert {anomaly.name for anomaly in verdict.anomalies} & CONVICTED[broken]


@pytest.mark.on("postgresql")
def test_invalidations_that_come_early_are_convicted(database: Database) -> None:
    verdict = run_on(database, "READ COMMITTED", "invalidate-early", seconds=1.5)
    assert STALE in {anomaly.name for anomaly in verdict.anomalies}


def test_every_broken_cache_is_tried() -> None:
    assert CACHES.keys() == CONVICTED.keys() | {"invalidate-early"}
