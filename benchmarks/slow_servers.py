"""Servers of a benchmark's own, whose disk is slow (`slow_disk`)."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import URL, create_engine, text

from tests.clusters import (
    mariadb_programs,
    mariadb_server,
    postgresql_cluster,
    postgresql_programs,
)


@contextmanager
def slow_server(kind: str, slow: dict[str, str]) -> Iterator[URL]:
    """A server of *kind* with *slow* in its environment; for SQLite, a file."""
    if kind == "postgresql":
        programs = postgresql_programs()
        assert programs is not None, "needs initdb"
        with postgresql_cluster(programs, environment=slow, fsync="on") as url:
            yield url
    elif kind == "mariadb":
        program = mariadb_programs()
        assert program is not None, "needs mariadbd"
        settings = {"log_bin": "binlog", "server_id": "1", "sync_binlog": "1"}
        with mariadb_server(program, environment=slow, **settings) as server:
            engine = create_engine(server.url)
            with engine.begin() as connection:
                connection.execute(text("CREATE DATABASE benchmark"))
            engine.dispose()
            yield server.url.set(database="benchmark")
    else:
        directory = Path(tempfile.mkdtemp(prefix="coherent_cache_sqlite_"))
        before = {name: os.environ.get(name) for name in slow}
        os.environ.update(slow)  # for the writers, which are started from here
        try:
            yield URL.create("sqlite", database=str(directory / "benchmark.db"))
        finally:
            for name, value in before.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value
            shutil.rmtree(directory, ignore_errors=True)


def missing_program(kind: str) -> str | None:
    """Why there is no server of our own of *kind*; None if there is."""
    if kind not in ("sqlite-wal", "postgresql", "mariadb"):
        return "not one of its databases"
    if shutil.which("gcc") is None:
        return "needs gcc, to slow the disk down"
    if kind == "postgresql" and postgresql_programs() is None:
        return "needs initdb"
    if kind == "mariadb" and mariadb_programs() is None:
        return "needs mariadbd"
    return None
