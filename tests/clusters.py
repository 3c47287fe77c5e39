"""A PostgreSQL server of a test's own, where the shared one is not set up for what it needs."""

from __future__ import annotations

import glob
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import URL


def postgresql_programs() -> Path | None:
    """The directory of initdb and pg_ctl, the newest there is."""
    on_path = shutil.which("initdb")
    found = sorted(
        glob.glob("/usr/lib/postgresql/*/bin/initdb"), key=lambda p: float(p.split("/")[4])
    )
    chosen = on_path or (found[-1] if found else None)
    return Path(chosen).parent if chosen else None


@contextmanager
def postgresql_cluster(programs: Path, **settings: str) -> Iterator[URL]:
    """A fresh cluster with *settings*, stopped and removed at the end."""
    # Not below pytest's own directory: the server's account may not be allowed in there.
    directory = Path(tempfile.mkdtemp(prefix="coherent_cache_pg_"))
    account = "postgres" if os.getuid() == 0 else None
    if account:
        shutil.chown(directory, account)
    data = directory / "data"
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    def run(program: str, *arguments: str) -> None:
        subprocess.run(
            [str(programs / program), *arguments],
            user=account,
            cwd=directory,
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    run("initdb", "-D", str(data), "-U", "postgres", "-A", "trust", "-N", "--no-locale", "-EUTF8")
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={directory}"
    options += " -c fsync=off" + "".join(f" -c {k}={v}" for k, v in settings.items())
    run("pg_ctl", "-D", str(data), "-w", "-l", str(directory / "log"), "-o", options, "start")
    try:
        yield URL.create(
            "postgresql+psycopg", "postgres", host="127.0.0.1", port=port, database="postgres"
        )
    finally:
        run("pg_ctl", "-D", str(data), "-w", "-m", "immediate", "stop")
        shutil.rmtree(directory, ignore_errors=True)
