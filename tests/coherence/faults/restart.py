"""The database server is killed with all its processes, and started again.

PostgreSQL then hands out transaction numbers again that it had given before the crash, namely to
transactions of which nothing was written yet.  So that there are such numbers each time, many
transactions take one and roll back just before, while nobody can commit; the workers look at the
ledger meanwhile, and learn a horizon that lies above numbers still to come.  One of them stands
still from then until the numbers have passed that horizon again: what the others have committed
meanwhile, it would never ask for.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from sqlalchemy import Connection, create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from ..history import Log
from ..workloads.client import Client
from ..workloads.environment import drive
from ..workloads.reading import read
from ..workloads.worker import Inside
from .servers import Server
from .stage import Stage
from .striking import Striking

#: Takes numbers and gives them up; in one statement, lest all threads wait meanwhile.
_TAKE_NUMBERS = (
    "DO $$ BEGIN FOR i IN 1..1000 LOOP PERFORM pg_current_xact_id(); ROLLBACK; END LOOP; END $$"
)


class Restart(Striking):
    """Kills the server and starts it again."""

    def __init__(self, server: Server, every: float) -> None:
        super().__init__(every)
        self._server = server
        self._engine = create_engine(server.url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
        self._is_postgresql = server.url.get_backend_name() == "postgresql"

    def strike(self) -> None:
        sleeper = self.random.choice(self.scene.workers)
        taken = self._take_numbers() if self._is_postgresql else 0
        self.scene.did("pause", sleeper.name)
        sleeper.signal(signal.SIGSTOP)
        try:
            self.scene.did("restart")
            self._server.kill()
            self._server.start()
            if self._is_postgresql:
                self._pass(taken)
            else:
                self.rest(self.random.uniform(0, 0.3))
        finally:
            self.scene.did("continue", sleeper.name)
            sleeper.signal(signal.SIGCONT)

    def _take_numbers(self) -> int:
        """Let transactions take numbers and roll back, while nobody commits what would make that
        last; return the last number."""
        with self._engine.connect() as barrier, self._engine.connect() as connection:
            try:
                barrier.execute(text("SET lock_timeout = 2000"))
                barrier.execute(text("BEGIN"))
                barrier.execute(text("LOCK TABLE record, cache IN SHARE MODE"))
            except DBAPIError:
                pass  # somebody keeps his transaction open; then there will be fewer numbers
            self._server.hold_back()
            connection.execute(text(_TAKE_NUMBERS))
            taken = _number(connection)
            self.rest(0.03)  # the workers read on, and look at the ledger
            return taken

    def _pass(self, taken: int) -> None:
        """Wait until some have committed under numbers that were taken before, and let the rest of
        them go."""
        with self._engine.connect() as connection:
            number = _number(connection)
            if number < taken:
                self.scene.did("reuse", f"{number} to {taken}")
            self.rest(0.3)
            while number <= taken:
                connection.execute(text(_TAKE_NUMBERS))
                number = _number(connection)


def _number(connection: Connection) -> int:
    """The number of a transaction that does nothing else."""
    return int(connection.scalar(text("SELECT pg_current_xact_id()::text::bigint")) or 0)


@contextmanager
def reading(work: Inside) -> Iterator[None]:
    """One thread of the worker reads only, so that it looks at the ledger also while nobody can
    write."""
    log = Log(f"{work.name}.r", work.logs / f"{work.name}.r.log")
    client = Client(work.plan, work.env, log)
    client.workload = replace(client.workload, kinds={read: 1})
    running = threading.Thread(target=lambda: drive(client.run(work.until)))
    running.start()
    yield
    running.join()
    log.close()


@contextmanager
def restart(stage: Stage) -> Iterator[None]:
    assert stage.server is not None
    stage.within(reading)
    stage.disturbers.append(Restart(stage.server, 0.2))
    yield
