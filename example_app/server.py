"""gunicorn, set up from here rather than from a configuration file."""

from __future__ import annotations

import os
import select
import socket
from typing import Any

from flask import Flask
from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.workers.base import Worker
from gunicorn.workers.sync import SyncWorker

_IDLE_SECONDS = 1


class OneAtATime(SyncWorker):
    """gunicorn's simplest worker, but for connections that browsers open on suspicion.

    Those say nothing until they are needed, and each would hold a whole worker till its
    time-out. Closed early, they cost the browser nothing: it opens another one.
    """

    def handle(self, listener: socket.socket, client: socket.socket, addr: Any) -> None:
        """Answer a request if one comes."""
        if select.select([client], [], [], _IDLE_SECONDS)[0]:
            super().handle(listener, client, addr)
        else:
            client.close()


WORKER_CLASSES = {"sync": OneAtATime, "gthread": "gthread"}


class Server(BaseApplication):
    """Serves an application that is built already: the workers are forked from this process."""

    def __init__(self, app: Flask, **options: Any) -> None:
        self._app = app
        self._options = {
            "preload_app": True,
            "pre_fork": _number_worker,
            "post_fork": _tell_number,
            "proc_name": "example_app",
            "control_socket_disable": True,
            **options,
        }
        super().__init__()

    def load_config(self) -> None:
        """Hand the options to gunicorn; those its release does not know are left out."""
        for name, value in self._options.items():
            if name in self.cfg.settings:
                self.cfg.set(name, value)

    def load(self) -> Any:
        """Return the application, once, before the workers are forked."""
        return self._app


def _number_worker(arbiter: Arbiter, worker: Worker) -> None:
    """Give a new worker the smallest number that is free: a restarted one gets its old number."""
    taken = {getattr(other, "number", 0) for other in arbiter.WORKERS.values()}
    free = next(number for number in range(1, len(taken) + 2) if number not in taken)
    setattr(worker, "number", free)  # noqa: B010  (gunicorn keeps what is hung on a worker)


def _tell_number(arbiter: Arbiter, worker: Worker) -> None:
    os.environ["WIKI_WORKER"] = str(getattr(worker, "number"))  # noqa: B009
