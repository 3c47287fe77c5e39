"""A server of a test's own, where the shared one is not set up for what it needs."""

from __future__ import annotations

import glob
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pymysql
from sqlalchemy import URL


def postgresql_programs() -> Path | None:
    """The directory of initdb and pg_ctl, the newest there is."""
    on_path = shutil.which("initdb")
    found = sorted(
        glob.glob("/usr/lib/postgresql/*/bin/initdb"), key=lambda p: float(p.split("/")[4])
    )
    chosen = on_path or (found[-1] if found else None)
    return Path(chosen).parent if chosen else None


def mariadb_programs() -> Path | None:
    """The server; its installer is found on the path."""
    found = shutil.which("mariadbd", path=os.environ.get("PATH", "") + ":/usr/sbin")
    return Path(found) if found and shutil.which("mariadb-install-db") else None


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@contextmanager
def postgresql_cluster(
    programs: Path, *, environment: Mapping[str, str] | None = None, **settings: str
) -> Iterator[URL]:
    """A fresh cluster with *settings*, stopped and removed at the end.

    It syncs nothing unless told to (``fsync="on"``); *environment* is the server's alone.
    """
    # Not below pytest's own directory: the server's account may not be allowed in there.
    directory = Path(tempfile.mkdtemp(prefix="coherent_cache_pg_"))
    account = "postgres" if os.getuid() == 0 else None
    if account:
        shutil.chown(directory, account)
    data = directory / "data"
    port = _free_port()

    def run(program: str, *arguments: str, **more: str) -> None:
        subprocess.run(
            [str(programs / program), *arguments],
            env={**os.environ, **more},
            user=account,
            cwd=directory,
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    run("initdb", "-D", str(data), "-U", "postgres", "-A", "trust", "-N", "--no-locale", "-EUTF8")
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={directory}"
    options += " -c fsync=off" + "".join(f" -c {k}={v}" for k, v in settings.items())
    log = str(directory / "log")
    run("pg_ctl", "-D", str(data), "-w", "-l", log, "-o", options, "start", **(environment or {}))
    try:
        yield URL.create(
            "postgresql+psycopg", "postgres", host="127.0.0.1", port=port, database="postgres"
        )
    finally:
        run("pg_ctl", "-D", str(data), "-w", "-m", "immediate", "stop")
        shutil.rmtree(directory, ignore_errors=True)


class MariaDBServer:
    """A MariaDB server that can be killed and started again; root has no password."""

    def __init__(
        self,
        program: Path,
        directory: Path,
        settings: Mapping[str, str],
        environment: Mapping[str, str],
    ) -> None:
        self._directory = directory
        self._account = "mysql" if os.getuid() == 0 else None
        self._environment = {**os.environ, **environment}
        self._process: subprocess.Popen[bytes] | None = None
        self._port = _free_port()
        self.url = URL.create("mysql+pymysql", "root", host="127.0.0.1", port=self._port)
        data = directory / "data"
        if self._account:
            shutil.chown(directory, self._account)
        install = ["mariadb-install-db", "--no-defaults", f"--datadir={data}"]
        install += ["--auth-root-authentication-method=normal", "--skip-test-db"]
        install += ["--skip-name-resolve", *([f"--user={self._account}"] if self._account else [])]
        subprocess.run(install, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._command = [
            str(program),
            "--no-defaults",
            f"--datadir={data}",
            f"--socket={directory / 'socket'}",
            f"--pid-file={directory / 'pid'}",
            f"--log-error={directory / 'log'}",
            f"--port={self._port}",
            "--bind-address=127.0.0.1",
            "--skip-name-resolve",
            *(f"--{name.replace('_', '-')}={value}" for name, value in settings.items()),
        ]

    def start(self) -> None:
        """Start the server, and return when it answers."""
        self._process = subprocess.Popen(
            self._command,
            user=self._account,
            cwd=self._directory,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        end = time.monotonic() + 60
        while True:
            try:
                pymysql.connect(host="127.0.0.1", port=self._port, user="root").close()
                return
            except pymysql.err.OperationalError:
                if self._process.poll() is not None or time.monotonic() > end:
                    raise RuntimeError((self._directory / "log").read_text()) from None
                time.sleep(0.05)

    def kill(self) -> None:
        """End the server with SIGKILL: what it had not written to its files is lost."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@contextmanager
def mariadb_server(
    program: Path, *, environment: Mapping[str, str] | None = None, **settings: str
) -> Iterator[MariaDBServer]:
    """A fresh server with *settings* (``log_bin="binlog"``), running; removed at the end."""
    directory = Path(tempfile.mkdtemp(prefix="coherent_cache_mariadb_"))
    server = MariaDBServer(program, directory, settings, environment or {})
    try:
        server.start()
        yield server
    finally:
        server.kill()
        shutil.rmtree(directory, ignore_errors=True)
