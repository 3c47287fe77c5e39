"""A process that reads on a hot standby of PostgreSQL, whose snapshots do not say what is running.

Transactions commit on the primary in another order than they took their numbers.  A reader that
trusted a standby's list of running transactions, which is always empty, would lose the late one.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import URL, text

from coherent_cache.ledger.postgresql import CALM

from .clusters import postgresql_cluster, postgresql_programs
from .databases import Database
from .workers import PageText, Worker, metadata, put

pytestmark = [pytest.mark.long, pytest.mark.thorough]

PROGRAMS = postgresql_programs()


@contextmanager
def standby_of(programs: Path, primary: URL) -> Iterator[URL]:
    """A hot standby that follows *primary*."""
    directory = Path(tempfile.mkdtemp(prefix="coherent_cache_standby_"))
    account = "postgres" if os.getuid() == 0 else None
    if account:
        shutil.chown(directory, account)
    data = directory / "data"
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    def run(program: str, *arguments: str) -> None:
        found = programs / program
        subprocess.run(
            [str(found if found.exists() else program), *arguments],
            user=account,
            cwd=directory,
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    source = f"host=127.0.0.1 port={primary.port} user=postgres"
    run("pg_basebackup", "-D", str(data), "-d", source, "-R", "-X", "stream", "-c", "fast")
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={directory}"
    run("pg_ctl", "-D", str(data), "-w", "-l", str(directory / "log"), "-o", options, "start")
    try:
        yield primary.set(port=port)
    finally:
        run("pg_ctl", "-D", str(data), "-w", "-m", "immediate", "stop")
        shutil.rmtree(directory, ignore_errors=True)


def replayed(primary: Worker, standby: Worker) -> None:
    """Wait until the standby has everything that the primary had at this call."""
    with primary.engine.connect() as connection:
        at = connection.scalar(text("SELECT pg_current_wal_insert_lsn()"))
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with standby.engine.connect() as connection:
            if connection.scalar(
                text("SELECT pg_last_wal_replay_lsn() >= CAST(:at AS pg_lsn)"), {"at": at}
            ):
                return
        time.sleep(0.01)
    raise AssertionError("the standby does not follow")


def test_standby_sees_what_commits_late() -> None:
    """T1 takes the lower number and stays open; T2 commits, and the standby's process looks; T1
    commits.  Meanwhile rows that were seen are no news, although they are read again."""
    if PROGRAMS is None:
        pytest.skip("no PostgreSQL server programs")
    with (
        postgresql_cluster(PROGRAMS, max_wal_senders="3", wal_level="replica") as url,
        standby_of(PROGRAMS, url) as standby_url,
    ):
        primary = Worker(Database("postgresql", url))
        primary.cache_manager.create_table()
        metadata.create_all(primary.engine)
        reader = Worker(Database("postgresql", standby_url))
        primary.write("Front", "old")
        primary.write("Back", "old")
        replayed(primary, reader)
        assert reader.read("Front") == reader.read("Back") == "old"
        with primary.engine.connect() as late:
            late.execute(text("SELECT pg_current_xact_id()"))
            for turn in ("new", "newer"):
                primary.write("Back", turn)
                replayed(primary, reader)
                assert reader.read("Back") == turn
            before = PageText.calls
            assert reader.read("Front") == "old"
            assert reader.read("Back") == "newer"
            assert PageText.calls == before
            put(late, "Front", "late")
            del PageText(primary, "Front").text
            late.commit()
        replayed(primary, reader)
        assert reader.read("Front") == "late"
        looks_unchanged(primary, reader)
        for worker in (primary, reader):
            worker.cache_manager.close()
            worker.database.dispose()


def looks_unchanged(primary: Worker, reader: Worker) -> None:
    """A transaction of three that overlap commits, neither the one that began first nor the one
    that began last: the standby's snapshot is what it was, and shows more."""
    snapshot = text("SELECT CAST(pg_current_snapshot() AS text)")
    with primary.engine.connect() as first, primary.engine.connect() as second:
        first.execute(text("SELECT pg_current_xact_id()"))
        put(second, "Front", "unseen")
        with primary.engine.begin() as third:  # without a row that would be read again each time
            put(third, "Elsewhere", "")
        replayed(primary, reader)
        with reader.engine.connect() as connection:
            before = connection.scalar(snapshot)
        for _ in range(CALM + 2):
            assert reader.read("Front") == "late"
        del PageText(primary, "Front").text
        second.commit()
        replayed(primary, reader)
        assert reader.read("Front") == "unseen"
        with reader.engine.connect() as connection:
            assert connection.scalar(snapshot) == before
