"""Fixtures: a database of each kind, and workers on it."""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import URL, Connection, text
from sqlalchemy.exc import OperationalError

from .databases import (
    REQUIRED,
    SERVICES,
    Database,
    create_database,
    drop_database,
    sqlite_url,
    unavailable,
)
from .schedules.schedule import Schedule
from .workers import Worker, metadata

FILES = ["sqlite-wal", "sqlite-journal"]
SERVERS = ["postgresql", "mariadb"]


@pytest.fixture(scope="session")
def service() -> Iterator[Callable[[str], URL]]:
    """Returns the URL of this run's own database on a service, or skips (or fails)."""
    made: dict[str, URL] = {}
    reasons: dict[str, str | None] = {}

    def get(kind: str) -> URL:
        if kind not in reasons:
            reasons[kind] = unavailable(kind)
        reason = reasons[kind]
        if reason is not None:
            if REQUIRED:
                pytest.fail(f"{kind} is required and does not answer: {reason}")
            pytest.skip(f"{kind} does not answer: {reason}")
        if kind not in made:
            made[kind] = create_database(kind)
        return made[kind]

    yield get
    for kind, url in made.items():
        drop_database(kind, url)


@pytest.fixture
def database(request: pytest.FixtureRequest, tmp_path: Any, service: Any) -> Iterator[Database]:
    """A database without tables; parametrised by `on` (default: files and servers)."""
    kind: str = request.param
    if kind == "sqlite-memory":
        found = Database(kind, URL.create("sqlite"))
    elif kind.startswith("sqlite"):
        found = Database(kind, sqlite_url(tmp_path))
    else:
        found = Database(kind, service(kind))
        _empty(found)
    yield found
    gc.collect()  # what a test leaves behind is its own: warnings are errors
    found.dispose()


def _empty(database: Database) -> None:
    engine = database.engine()
    with engine.begin() as connection:
        if database.kind == "postgresql":
            connection.execute(
                text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            )
            connection.execute(text("DROP SCHEMA public CASCADE"))
            connection.execute(text("CREATE SCHEMA public"))
        else:
            _end_others_on_mariadb(connection)
            for table in connection.scalars(text("SHOW TABLES")).all():
                connection.execute(text(f"DROP TABLE `{table}`"))
    engine.dispose()


def _end_others_on_mariadb(connection: Connection) -> None:
    """What the test before has left holds locks named after lanes that are to be made anew."""
    others = text(
        "SELECT id FROM information_schema.processlist "
        "WHERE db = DATABASE() AND id <> CONNECTION_ID()"
    )
    while found := connection.scalars(others).all():
        for session in found:
            with contextlib.suppress(OperationalError):  # it is gone
                connection.execute(text(f"KILL {session}"))
        time.sleep(0.001)


@pytest.fixture
def worker(database: Database) -> Worker:
    """A worker, with the ledger's table and the application's created."""
    made = Worker(database)
    made.cache_manager.create_table()
    metadata.create_all(made.engine)
    return made


@pytest.fixture
def other(worker: Worker) -> Worker:
    """Another worker on the same database (not for in-memory databases)."""
    return Worker(worker.database)


@pytest.fixture
def schedule() -> Schedule:
    """Plays exact schedules: see `Schedule`."""
    return Schedule()


def pytest_collection_finish() -> None:
    """Keep what is loaded by now out of the collections after each test: they take half the time
    otherwise."""
    gc.collect()
    gc.freeze()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test that takes a database on all kinds, or on those that its mark `on` names."""
    if "database" not in metafunc.fixturenames:
        return
    mark = metafunc.definition.get_closest_marker("on")
    kinds = list(mark.args) if mark else FILES + SERVERS
    metafunc.parametrize("database", kinds, indirect=True, ids=kinds)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say which service was not tested, also where the tests ran in other processes."""
    skipped = [str(report.longrepr) for report in terminalreporter.stats.get("skipped", ())]
    for kind, (variable, _) in SERVICES.items():
        missed = [reason for reason in skipped if f"{kind} does not answer" in reason]
        if missed:
            terminalreporter.write_line(
                f"NOT TESTED on {kind}: {len(missed)} tests were skipped because it does not "
                f"answer (set {variable})",
                yellow=True,
            )
