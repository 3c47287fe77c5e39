"""Connections that end: by the server at random, and on their way at an exact moment."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from ...proxy import CUT_AFTER, CUT_BEFORE, PASS, Proxy
from ..disturbers import Scene
from ..workloads.client import Client
from ..workloads.work import Work
from ..workloads.worker import Inside
from .stage import Stage
from .striking import Striking

_SESSIONS = {
    "postgresql": (
        "SELECT pid, query = 'COMMIT' AND state = 'active' FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    ),
    "mariadb": (
        "SELECT id, COALESCE(info = 'COMMIT', FALSE) FROM information_schema.processlist "
        "WHERE db = DATABASE() AND id <> CONNECTION_ID()"
    ),
}
_END = {"postgresql": "SELECT pg_terminate_backend({})", "mariadb": "KILL CONNECTION {}"}


class Cut(Striking):
    """The server ends a session of the run's database; every second time one that is in its
    COMMIT, if there is one soon."""

    def __init__(self, stage: Stage, every: float) -> None:
        super().__init__(every)
        self._kind = stage.plan.kind
        self._engine: Engine = stage.database.engine(
            poolclass=NullPool, isolation_level="AUTOCOMMIT"
        )

    def strike(self) -> None:
        try:
            with self._engine.connect() as connection:
                self._end_one(connection, in_commit=self.random.random() < 0.5)
        except DBAPIError:
            pass  # it had ended by itself, or the server is away

    def _end_one(self, connection: Connection, *, in_commit: bool) -> None:
        end = time.monotonic() + 0.05
        while True:
            sessions = connection.execute(text(_SESSIONS[self._kind])).all()
            committing = [number for number, commits in sessions if commits]
            if committing or not in_commit or time.monotonic() > end:
                break
        if not sessions:
            return
        number = (committing or [self.random.choice(sessions)[0]])[0]
        self.scene.did("cut", f"{number}{' in its COMMIT' if committing else ''}")
        connection.execute(text(_END[self._kind].format(int(number))))


@contextmanager
def going_on(work: Inside) -> Iterator[None]:
    """A request whose transaction fails goes on: it reads, as the error page would."""
    transaction = Client.transaction

    @asynccontextmanager
    async def carefully(self: Client) -> AsyncIterator[Work]:
        has_begun = False
        written: list[str] = []
        try:
            async with transaction(self) as opened:
                has_begun = True
                write = opened.write

                async def noted(key: str, write_id: str) -> int:
                    written.append(key)
                    return await write(key, write_id)

                opened.write = noted  # type: ignore[method-assign]
                yield opened
        except Exception as error:
            if not has_begun or not self.plan.explains(error):
                raise
            self.log.add("error", type(getattr(error, "orig", None) or error).__name__)
            for key in written:
                await self.read(key)

    Client.transaction = carefully  # type: ignore[method-assign]
    yield
    Client.transaction = transaction  # type: ignore[method-assign]


@contextmanager
def cut(stage: Stage) -> Iterator[None]:
    stage.disturbers.append(Cut(stage, 0.1))
    stage.within(going_on)
    yield


class CutWire(Striking):
    """Between the workers and the server something ends connections: some of them, all of them
    for a while, and now and then one whose COMMIT passes by, before it is passed on (it never
    arrives) or after (its answer is lost)."""

    def __init__(self, every: float) -> None:
        super().__init__(every)
        self._lock = threading.Lock()
        self._at_commit = ""
        self.proxy: Proxy | None = None

    def watch(self, data: bytes) -> str:
        """What becomes of a packet from a client."""
        if not self._at_commit or b"COMMIT" not in data or len(data) > 100:
            return PASS
        with self._lock:
            wanted, self._at_commit = self._at_commit, ""
        if wanted:
            self.scene.did("cut-wire", wanted)
        return wanted or PASS

    def start(self, scene: Scene) -> None:
        self._chance = random.Random(scene.plan.seed)
        super().start(scene)

    def strike(self) -> None:
        assert self.proxy is not None
        how = self.random.choice([CUT_BEFORE, CUT_AFTER, CUT_BEFORE, CUT_AFTER, "some", "all"])
        if how == "some":
            self.scene.did("cut-wire", how)
            self.proxy.cut_some(lambda: self._chance.random() < 0.4)
        elif how == "all":
            self.scene.did("cut-wire", how)
            self.proxy.cut()
            self.rest(self.random.uniform(0.01, 0.15))
            self.proxy.mend()
        else:
            self._at_commit = how

    def stop(self) -> None:
        super().stop()
        self._at_commit = ""


@contextmanager
def cut_wire(stage: Stage) -> Iterator[None]:
    disturber = CutWire(0.12)
    url = stage.plan.url
    disturber.proxy = Proxy((url.host or "127.0.0.1", url.port or 0), watch=disturber.watch)
    stage.change(url=url.set(host="127.0.0.1", port=disturber.proxy.port))
    stage.disturbers.append(disturber)
    stage.within(going_on)
    yield
    disturber.proxy.close()
