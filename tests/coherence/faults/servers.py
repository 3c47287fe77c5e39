"""Database servers of a run's own, which can be killed and started again.

What is killed is every process of the server at once, by SIGKILL, as a machine that reboots kills
it, except that what was handed to the operating system stays written.  So commits are there after
the recovery, and what was in the server's own buffers is not: on PostgreSQL also the numbers of
transactions that rolled back, which are handed out again.
"""

from __future__ import annotations

import abc
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from sqlalchemy import URL, create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from ...clusters import postgresql_programs

#: How long a server may take to answer, in seconds.
_PATIENCE = 60.0


class Server(abc.ABC):
    """A server with a directory and a port of its own."""

    url: URL

    def __init__(self) -> None:
        # Not below pytest's own directory: the server's account may not be allowed in there.
        self._directory = Path(tempfile.mkdtemp(prefix="coherent_cache_server_"))
        self._account: str | None = None
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port: int = free.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server, after a kill with its recovery, and wait until it answers."""
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command(),
                cwd=self._directory,
                user=self._account,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        engine = create_engine(self.url, poolclass=NullPool)
        end = time.monotonic() + _PATIENCE
        while True:
            try:
                with engine.connect() as connection:
                    connection.execute(text("SELECT 1"))
                return
            except DBAPIError:
                if self._process.poll() is not None or time.monotonic() > end:
                    log_text = (self._directory / "log").read_text(errors="replace")
                    raise RuntimeError(f"the server does not start:\n{log_text[-3000:]}") from None
            time.sleep(0.02)

    def kill(self) -> None:
        """Kill every process of the server; none is left when this returns."""
        assert self._process is not None
        # Stopped first: a postmaster that sees a child die begins to recover by itself.
        self._process.send_signal(signal.SIGSTOP)
        family = psutil.Process(self._process.pid).children(recursive=True)
        for child in family:
            child.kill()
        self._process.kill()
        self._process.wait()
        end = time.monotonic() + _PATIENCE
        while any(_runs(child) for child in family):
            assert time.monotonic() < end, "a process of the server does not die"
            time.sleep(0.002)
        self._process = None

    def hold_back(self) -> None:
        """Stop what writes in the background: what needs no COMMIT stays in memory until the
        server is killed."""
        assert self._process is not None
        for child in psutil.Process(self._process.pid).children():
            if any("writer" in word or "checkpointer" in word for word in child.cmdline()):
                child.suspend()

    def remove(self) -> None:
        if self._process is not None:
            self.kill()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _run(self, *command: str) -> None:
        subprocess.run(
            command,
            user=self._account,
            cwd=self._directory,
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    @abc.abstractmethod
    def _command(self) -> list[str]:
        """The command that runs in the foreground."""


class PostgreSQL(Server):
    """Recovers from what it wrote at each COMMIT."""

    def __init__(self, programs: Path, **settings: str) -> None:
        super().__init__()
        if os.getuid() == 0:
            self._account = "postgres"
            shutil.chown(self._directory, self._account)
        self._postgres = str(programs / "postgres")
        self._settings = {
            "port": str(self._port),
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(self._directory),
            # A COMMIT writes to the operating system, which is not killed.
            "fsync": "off",
            **settings,
        }
        self.url = URL.create(
            "postgresql+psycopg", "postgres", host="127.0.0.1", port=self._port, database="postgres"
        )
        data = str(self._directory / "data")
        initdb = str(programs / "initdb")
        self._run(
            initdb, "-D", data, "-U", "postgres", "-A", "trust", "-N", "--no-locale", "-EUTF8"
        )

    def _command(self) -> list[str]:
        command = [self._postgres, "-D", str(self._directory / "data")]
        for name, value in self._settings.items():
            command += ["-c", f"{name}={value}"]
        return command


class MariaDB(Server):
    """Recovers from what it wrote at each COMMIT."""

    def __init__(self, programs: Path) -> None:
        super().__init__()
        self._mariadbd = str(programs / "mariadbd")
        self.url = URL.create(
            "mysql+pymysql", "root", host="127.0.0.1", port=self._port, database="test"
        )
        self._data = f"--datadir={self._directory / 'data'}"
        self._user = "--user=root" if os.getuid() == 0 else "--skip-name-resolve"
        install = shutil.which("mariadb-install-db")
        assert install is not None
        self._run(
            install,
            "--no-defaults",
            self._data,
            self._user,
            "--auth-root-authentication-method=normal",
        )

    def _command(self) -> list[str]:
        return [
            self._mariadbd,
            "--no-defaults",
            self._data,
            self._user,
            f"--port={self._port}",
            "--bind-address=127.0.0.1",
            f"--socket={self._directory / 'socket'}",
            f"--pid-file={self._directory / 'pid'}",
            # A COMMIT writes to the operating system, which is not killed.
            "--innodb-flush-log-at-trx-commit=2",
            "--innodb-buffer-pool-size=32M",
        ]


def _runs(process: psutil.Process) -> bool:
    try:
        # Whose parent is dead may stay a zombie for a while.
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def mariadb_programs() -> Path | None:
    """The directory of mariadbd."""
    path = os.environ.get("PATH", "") + os.pathsep + "/usr/sbin"
    found = shutil.which("mariadbd", path=path)
    ready = found and shutil.which("mariadb-install-db")
    return Path(found).parent if found and ready else None


def missing(kind: str) -> str | None:
    """Why there can be no server of *kind* of one's own, None if there can."""
    if kind == "postgresql":
        return None if postgresql_programs() else "no initdb was found"
    return None if mariadb_programs() else "no mariadbd or mariadb-install-db was found"


@contextmanager
def private_server(kind: str, **settings: str) -> Iterator[Server]:
    """A fresh server that runs, killed and removed at the end."""
    programs = postgresql_programs() if kind == "postgresql" else mariadb_programs()
    if programs is None:
        raise FileNotFoundError(missing(kind))
    server = PostgreSQL(programs, **settings) if kind == "postgresql" else MariaDB(programs)
    try:
        server.start()
        yield server
    finally:
        server.remove()
