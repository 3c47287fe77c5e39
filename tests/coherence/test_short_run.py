"""The workloads in a short form: each once, and each database at each isolation level."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import pytest

from ..databases import Database
from .anomaly import (
    ABORTED,
    LOST_COMMIT,
    LOST_OWN_WRITE,
    NAMES,
    SAVEPOINT_LEAK,
    STALE,
    TORN,
    UNCOMMITTED,
    UNSTABLE,
)
from .broken import CACHES
from .broken_tiers import TIERS
from .plan import Plan, in_mode
from .run import Verdict, run
from .table import HEADER, row
from .tiers import KINDS, SERIALIZERS, TierPlace
from .workloads.catalogue import WORKLOADS
from .workloads.tables import LEVELS

SECONDS = float(os.environ.get("COHERENT_CACHE_RUN_SECONDS", "1.2"))

#: Which workload runs at which of the levels of `LEVELS`, and one that is left.
PLAYED = {
    "sqlite-wal": ["mixed", "orm", "async", "slow"],
    "sqlite-journal": ["async-orm", "hot", "many", "pruned"],
    "postgresql": ["pruned", "two-tables", "orm-keep", "several"],
    "mariadb": ["nested", "long", "pruned"],
}


def run_on(
    database: Database,
    isolation: str,
    workload: str,
    broken: str = "",
    seconds: float = SECONDS,
    freshness: str = "strict",
    tier: str = "",
) -> Verdict:
    seed = int(os.environ.get("COHERENT_CACHE_RUN_SEED", time.time_ns() % 1_000_000))
    plan = Plan(
        database.kind,
        database.url,
        isolation,
        seconds=seconds,
        seed=seed,
        workload=workload,
        broken=broken,
        **in_mode(freshness),
        tier=tier,
    )
    verdict = run(plan, processes=2)
    print(f"seed {seed}\n{HEADER}\n{row(verdict)}")  # shown if the test fails
    for anomaly in verdict.anomalies[:3]:
        print(anomaly)
    return verdict


@pytest.mark.parametrize(
    "number", [0, 1, *(pytest.param(n, marks=pytest.mark.thorough) for n in (2, 3))]
)
def test_nothing_is_wrong_and_little_is_computed(database: Database, number: int) -> None:
    played, levels = PLAYED[database.kind], LEVELS[database.kind]
    if number >= len(played):
        return
    verdict = run_on(database, levels[number % len(levels)], played[number])
    assert verdict.anomalies == []
    assert verdict.reads > 20
    assert verdict.commits > 0
    # Not as few as possible: loads meet with invalidations, and a transaction that has written
    # computes for itself; but not one for each read.
    assert verdict.calls <= 4 * verdict.least
    assert verdict.hits > 0.2


def test_every_workload_and_level_is_played() -> None:
    assert {name for played in PLAYED.values() for name in played} == WORKLOADS.keys()
    assert PLAYED.keys() == LEVELS.keys()
    assert all(len(PLAYED[kind]) >= len(levels) for kind, levels in LEVELS.items())


#: A kind of tier and a serializer, an isolation level and a workload.
WITH_A_TIER = {
    "sqlite-wal": ("redis", "typed", "DRIVER", "mixed"),
    "postgresql": ("memcached", "pickle", "REPEATABLE READ", "nested"),
    "mariadb": ("file", "typed", "REPEATABLE READ", "pruned"),
}


@pytest.mark.long
@pytest.mark.thorough
@pytest.mark.on(*WITH_A_TIER)
def test_nothing_is_wrong_with_a_tier(
    database: Database, tiers: Callable[[str], TierPlace]
) -> None:
    kind, serializer, isolation, workload = WITH_A_TIER[database.kind]
    verdict = run_on(database, isolation, workload, tier=tiers(kind).text(serializer))
    assert verdict.anomalies == []
    assert verdict.reads > 20
    assert verdict.commits > 0
    assert verdict.tier_hits > 0


def test_every_kind_of_tier_is_played() -> None:
    assert {kind for kind, *_ in WITH_A_TIER.values()} == set(KINDS)
    assert {serializer for _, serializer, *_ in WITH_A_TIER.values()} == set(SERIALIZERS)


#: What a cache that is broken in some way is convicted of, by which workload.
CONVICTED = {
    "publish-dirty": ("mixed", {UNCOMMITTED, ABORTED}),
    "check-seldom": ("mixed", {STALE}),
    "publish-old": ("mixed", {STALE}),
    "forget-between-reads": ("mixed", {UNSTABLE}),
    "keep-after-rollback": ("mixed", {ABORTED}),
    "keep-after-undo": ("mixed", {SAVEPOINT_LEAK}),
    "show-the-old-one": ("mixed", {LOST_OWN_WRITE}),
    "invalidate-one": ("several", {TORN}),
    "lose-a-commit": ("mixed", {LOST_COMMIT}),
    "put-without-another-look": ("slow", {STALE}),
    "ignore-the-generation": ("mixed", {STALE}),
    "ignore-what-it-depends-on": ("nested", {STALE}),
    "put-what-is-private": ("mixed", {UNCOMMITTED, ABORTED}),
    "prune-without-a-mark": ("pruned", {STALE}),
}
#: Those that a mode makes wrong, by ``test_modes``.
CONVICTED_OF_MODES = {
    "announce-nothing",
    "count-from-the-end",
    "outdate-nothing",
    "never-too-old",
    "vouch-without-looking",
}


#: Those that are tried each time; the others by `tox -e thorough`.
QUICK = ("publish-dirty", "check-seldom", "publish-old", "invalidate-one", "lose-a-commit")


def _marked(broken: str) -> Any:
    return pytest.param(broken, marks=[] if broken in QUICK else [pytest.mark.thorough])


@pytest.mark.on("sqlite-wal")
@pytest.mark.parametrize("broken", [_marked(name) for name in CONVICTED if name not in TIERS])
def test_a_broken_cache_is_convicted(database: Database, broken: str) -> None:
    workload, names = CONVICTED[broken]
    for seconds in (1, 2, 4, 8):  # a busy machine does not come to much in a second
        verdict = run_on(database, "DRIVER", workload, broken, seconds=seconds)
        if {anomaly.name for anomaly in verdict.anomalies} & names:
            return
    pytest.fail("it was not noticed")


@pytest.mark.long
@pytest.mark.thorough
@pytest.mark.on("sqlite-wal")
@pytest.mark.parametrize("broken", TIERS)
def test_a_broken_tier_is_convicted(
    database: Database, tiers: Callable[[str], TierPlace], broken: str
) -> None:
    workload, names = CONVICTED[broken]
    text = tiers("redis").text()
    for _ in range(3):  # one run convicts it nearly always; on a busy machine it is a short one
        verdict = run_on(database, "DRIVER", workload, broken, seconds=1, tier=text)
        if {anomaly.name for anomaly in verdict.anomalies} & names:
            return
    pytest.fail("nothing was seen of what is broken")


@pytest.mark.on("postgresql")
def test_invalidations_that_come_early_are_convicted(database: Database) -> None:
    verdict = run_on(database, "READ COMMITTED", "mixed", "invalidate-early", seconds=1.5)
    assert STALE in {anomaly.name for anomaly in verdict.anomalies}


def test_every_broken_cache_is_tried_and_shows_every_anomaly() -> None:
    assert CACHES.keys() == CONVICTED.keys() | CONVICTED_OF_MODES | {"invalidate-early"}
    assert set().union(*(names for _, names in CONVICTED.values())) == set(NAMES)
