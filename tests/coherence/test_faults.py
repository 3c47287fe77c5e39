"""Each fault in a short form: what was read is right, and reading and writing go on afterwards."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from ..databases import REQUIRED
from .anomaly import ABORTED, LOST_COMMIT, LOST_OWN_WRITE, STALE, UNCOMMITTED
from .faults.aftermath import Aftermath
from .faults.broken import CACHES
from .faults.catalogue import FAULTS
from .faults.perform import perform
from .faults.servers import Server, missing, private_server
from .plan import Plan
from .rounds import database_of
from .run import Verdict
from .table import HEADER, row
from .tiers import TierPlace
from .workloads.tables import LEVELS

pytestmark = pytest.mark.long

SECONDS = float(os.environ.get("COHERENT_CACHE_RUN_SECONDS", "2"))


@pytest.fixture(scope="module")
def servers() -> Iterator[Any]:
    """Returns a server that may be killed, one for all tests that need it."""
    with ExitStack() as stack:
        made: dict[str, Server] = {}

        def get(kind: str) -> Server:
            reason = missing(kind)
            if reason is not None:
                if REQUIRED:
                    pytest.fail(f"a {kind} server of its own is required: {reason}")
                pytest.skip(f"no {kind} server of its own: {reason}")
            if kind not in made:
                two_phase = {"max_prepared_transactions": "20"} if kind == "postgresql" else {}
                made[kind] = stack.enter_context(private_server(kind, **two_phase))
            return made[kind]

        yield get


@pytest.fixture
def play(service: Any, servers: Any, request: pytest.FixtureRequest) -> Any:
    """Plays a run with faults."""

    def play(
        faults: str,
        kind: str,
        level: int = 0,
        *,
        broken: str = "",
        seconds: float = SECONDS,
        tier: str = "",
    ) -> tuple[Verdict, Aftermath]:
        chosen = [FAULTS[name] for name in faults.split()]
        if not kind.startswith("sqlite"):
            service(kind)
        needs_server = any(fault.server is not None for fault in chosen)
        server = servers(kind) if needs_server else None
        seed = int(os.environ.get("COHERENT_CACHE_RUN_SEED", time.time_ns() % 1_000_000))
        with database_of(kind) as database:
            isolation = LEVELS[kind][level]
            place: TierPlace | None = None
            if tier:
                tiers: Callable[[str], TierPlace] = request.getfixturevalue("tiers")
                place = tiers(tier)
            plan = Plan(
                kind,
                database.url,
                isolation,
                seconds=seconds,
                seed=seed,
                broken=broken,
                tier=place.text() if place else "",
            )
            verdict, after = perform(chosen, plan, server=server, tier=place)
        print(f"seed {seed}\n{HEADER}\n{row(verdict)}\n{verdict.counts}\n{after}")
        for anomaly in verdict.anomalies[:3]:
            print(anomaly)
        return verdict, after

    return play


#: Faults, the databases, and the isolation level of each (its place in `LEVELS`).
RUNS = [
    ("kill", {"sqlite-wal": 0, "sqlite-journal": 1, "postgresql": 1, "mariadb": 1}),
    ("pause", {"sqlite-wal": 1, "postgresql": 0, "mariadb": 1}),
    ("cut", {"postgresql": 2, "mariadb": 1}),
    ("cut-wire", {"postgresql": 0, "mariadb": 0}),
    ("restart", {"postgresql": 0, "mariadb": 1}),
    ("pool", {"sqlite-wal": 0, "postgresql": 1, "mariadb": 1}),
    ("disk", {"sqlite-wal": 0, "sqlite-journal": 0}),
    ("fork", {"postgresql": 1, "mariadb": 1}),
    ("prepared", {"postgresql": 0, "mariadb": 1}),
    ("prune pause", {"sqlite-wal": 0, "postgresql": 0, "mariadb": 1}),
    ("restore", {"sqlite-wal": 0, "postgresql": 0, "mariadb": 1}),
]


#: The same with a tier: a fault of the database's and its own, by turns.
RUNS_WITH_A_TIER = [
    ("tier-down", "redis", "sqlite-wal", 0),
]
#: Those that `soak` plays only: each takes seconds, and they differ little.
SOAKED = {"tier-hang", "tier-flush", "tier-full", "tier-cut", "tier-forge"}


#: Those that are played each time; the others by `tox -e thorough`.
QUICK = ("kill-postgresql", "kill-mariadb", "disk-sqlite-wal")


def _run(faults: str, kind: str, level: int) -> Any:
    name = f"{faults.replace(' ', '+')}-{kind}"
    marks = [] if name in QUICK else [pytest.mark.thorough]
    return pytest.param(faults, kind, level, id=name, marks=marks)


@pytest.mark.parametrize(
    ("faults", "kind", "level"),
    [_run(faults, kind, level) for faults, kinds in RUNS for kind, level in kinds.items()],
)
def test_right_answers_during_and_after(play: Any, faults: str, kind: str, level: int) -> None:
    for _ in range(5):
        verdict, after = play(faults, kind, level)
        assert verdict.anomalies == []
        missed = [name for name in faults.split() if not _happened(verdict, name)]
        # Transaction numbers have to be handed out again.
        if faults == "restart" and kind == "postgresql" and not verdict.counts.get("reuse"):
            missed.append("reuse")
        if not missed:
            break  # else chance had it: a pruner only waited for those who stood still
    assert missed == []
    if faults == "pool":
        assert verdict.counts["error TimeoutError"] > 0
    assert after.reads > 10
    assert after.commits > 0


@pytest.mark.parametrize(("faults", "tier", "kind", "level"), RUNS_WITH_A_TIER)
def test_right_answers_with_a_tier(
    play: Any, faults: str, tier: str, kind: str, level: int
) -> None:
    verdict, after = play(faults, kind, level, tier=tier)
    assert verdict.anomalies == []
    assert all(_happened(verdict, name) for name in faults.split())
    assert verdict.tier_hits > 0
    assert after.reads > 10
    assert after.commits > 0


def _happened(verdict: Verdict, name: str) -> bool:
    return any(verdict.counts.get(counted, 0) for counted in FAULTS[name].counted)


def test_every_fault_is_tried_on_a_database_of_each_kind() -> None:
    tried = {name: set(kinds) for faults, kinds in RUNS for name in faults.split()[:1]}
    tried_with_a_tier = {name for faults, *_ in RUNS_WITH_A_TIER for name in faults.split()}
    assert tried.keys() | tried_with_a_tier | SOAKED == FAULTS.keys()
    for name, kinds in tried.items():
        assert {kind.partition("-")[0] for kind in kinds} == {
            kind.partition("-")[0] for kind in FAULTS[name].on
        }


#: A fault, a database, what is taken out, and what it is convicted of.
CONVICTED = [
    ("kill", "sqlite-wal", "invalidate-after-commit", {STALE}),
    ("pause", "sqlite-wal", "publish-old", {STALE}),
    ("cut", "postgresql", "old-values-while-the-database-is-away", {STALE, LOST_OWN_WRITE}),
    ("cut-wire", "postgresql", "take-a-lost-answer-for-a-commit", {ABORTED, UNCOMMITTED}),
    ("restart", "postgresql", "trust-the-old-session", {STALE}),
    ("restart", "mariadb", "old-values-while-the-database-is-away", {STALE}),
    ("pool", "sqlite-wal", "old-value-for-an-error", {STALE}),
    ("disk", "sqlite-wal", "commit-without-the-ledger", {STALE, LOST_COMMIT}),
    ("fork", "postgresql", "stay-in-the-parents-view", {STALE}),
    ("prepared", "mariadb", "write-nothing-before-a-prepare", {STALE}),
    ("prune pause", "sqlite-wal", "join-whatever-is-there", {STALE}),
    ("restore", "mariadb", "join-whatever-is-there", {STALE, ABORTED}),
    ("tier-forge", "sqlite-wal", "open-whatever-is-there", {STALE, UNCOMMITTED}),
]


def _conviction(faults: str, kind: str, broken: str, names: Any) -> Any:
    name = f"{faults.replace(' ', '+')}-{broken}"
    marks = [] if name == "kill-invalidate-after-commit" else [pytest.mark.thorough]
    return pytest.param(faults, kind, broken, names, id=name, marks=marks)


@pytest.mark.parametrize(
    ("faults", "kind", "broken", "names"),
    [_conviction(*each) for each in CONVICTED],
)
def test_a_broken_cache_is_convicted(
    play: Any, faults: str, kind: str, broken: str, names: set[str]
) -> None:
    # One run convicts it nearly always; whether the moment comes is up to chance.
    for _ in range(4):
        tier = "redis" if faults.startswith("tier") else ""
        verdict, _ = play(faults, kind, broken=broken, seconds=max(SECONDS, 3), tier=tier)
        if {anomaly.name for anomaly in verdict.anomalies} & names:
            return
    pytest.fail("nothing was seen of what is broken")


def test_every_broken_cache_is_tried() -> None:
    assert CACHES.keys() <= {broken for _, _, broken, _ in CONVICTED}
