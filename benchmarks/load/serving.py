"""Starts the servers, and waits until they answer."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

WORKERS = 4
#: In each worker; all servers of a table hold as many connections to the database.
THREADS = 2
_DEADLINE_SECONDS = 30


@dataclass(frozen=True)
class Server:
    """One way to serve an application: *command* with {app}, {port} and {workers} filled in."""

    name: str
    command: tuple[str, ...]


_GUNICORN = ("gunicorn", "--bind", "127.0.0.1:{port}", "--workers", "{workers}")
_QUIET = ("--log-level", "warning", "{app}:create_app()")
SYNC = Server("gunicorn, sync", (*_GUNICORN, *_QUIET))
GTHREAD = Server(
    f"gunicorn, gthread with {THREADS} threads",
    (*_GUNICORN, "--worker-class", "gthread", "--threads", str(THREADS), *_QUIET),
)
UVICORN = Server(
    "uvicorn",
    (
        *("benchmarks.load.uvicorn_server", "--factory", "--host", "127.0.0.1", "--port", "{port}"),
        *("--workers", "{workers}", "--log-level", "warning", "--no-access-log"),
        "{app}:create_app",
    ),
)


@contextmanager
def serving(server: Server, app: str, environment: Mapping[str, str]) -> Iterator[int]:
    """The port that the module *app* is served at."""
    port = _free_port()
    words = [w.format(app=app, port=port, workers=WORKERS) for w in server.command]
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *words],
            env={**os.environ, **environment},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            _wait(process, port)
            yield port
        except BaseException:
            log.seek(0)
            print(log.read()[-4000:], file=sys.stderr)
            raise
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)  # the workers are of its session
                process.wait()


def _wait(process: subprocess.Popen[bytes], port: int) -> None:
    end = time.monotonic() + _DEADLINE_SECONDS
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with {process.returncode}")
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/wiki/nothing")
            connection.getresponse().read()
            connection.close()
            return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError("the server does not answer")


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port
