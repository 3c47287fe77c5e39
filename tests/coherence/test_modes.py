"""The modes in a short form: each keeps what it promises, and what does not is convicted."""

from __future__ import annotations

import pytest

from ..databases import Database
from .anomaly import STALE
from .test_short_run import run_on
from .workloads.tables import LEVELS

#: Seconds: less than there is between two commits of a process now and then, or the bound would
#: never be what makes it look.
BOUND = "0.02"


@pytest.mark.long
@pytest.mark.thorough
@pytest.mark.on("sqlite-wal", "postgresql")
def test_bounded_keeps_its_bound(database: Database) -> None:
    verdict = run_on(database, LEVELS[database.kind][0], "mixed", freshness=BOUND)
    assert verdict.anomalies == []
    assert verdict.commits > 0
    assert verdict.reads > 20


@pytest.mark.long
@pytest.mark.thorough
@pytest.mark.on("postgresql")
def test_push_keeps_its_bound(database: Database) -> None:
    verdict = run_on(database, "READ COMMITTED", "mixed", freshness=f"push:{BOUND}")
    assert verdict.anomalies == []
    assert verdict.commits > 0
    assert verdict.reads > 20


@pytest.mark.long
@pytest.mark.thorough
@pytest.mark.on("postgresql")
def test_a_heartbeat_that_does_not_look_is_convicted(database: Database) -> None:
    verdict = run_on(
        database,
        "READ COMMITTED",
        "mixed",
        "vouch-without-looking",
        seconds=1,
        freshness=f"push:{BOUND}",
    )
    assert STALE in {anomaly.name for anomaly in verdict.anomalies}


@pytest.mark.long
@pytest.mark.thorough
@pytest.mark.on("sqlite-wal")
@pytest.mark.parametrize("workload", ["mixed", "async"])
def test_shared_memory_is_strict(database: Database, workload: str) -> None:
    verdict = run_on(database, "DRIVER", workload, freshness="shared-memory")
    assert verdict.anomalies == []
    assert verdict.commits > 0
    assert verdict.reads > 20


@pytest.mark.long
@pytest.mark.on("postgresql", "mariadb")
def test_one_host_is_strict(database: Database) -> None:
    verdict = run_on(database, "READ COMMITTED", "mixed", freshness="one-host")
    assert verdict.anomalies == []
    assert verdict.commits > 0
    assert verdict.reads > 20


@pytest.mark.long
@pytest.mark.thorough
@pytest.mark.on("postgresql", "mariadb")
def test_who_announces_nothing_is_convicted(database: Database) -> None:
    verdict = run_on(
        database, "READ COMMITTED", "mixed", "announce-nothing", seconds=1, freshness="one-host"
    )
    assert STALE in {anomaly.name for anomaly in verdict.anomalies}


@pytest.mark.long
@pytest.mark.thorough
@pytest.mark.on("sqlite-wal")
@pytest.mark.parametrize("broken", ["count-from-the-end", "outdate-nothing", "never-too-old"])
def test_a_bound_that_is_not_kept_is_convicted(database: Database, broken: str) -> None:
    verdict = run_on(database, "DRIVER", "mixed", broken, seconds=1, freshness=BOUND)
    assert STALE in {anomaly.name for anomaly in verdict.anomalies}
