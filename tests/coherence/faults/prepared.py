"""Transactions that are prepared by one session, which then ends, and finished by another."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from ..workloads import client
from ..workloads.environment import Environment, current_session
from ..workloads.work import Work
from ..workloads.worker import Inside
from .stage import Stage
from .striking import Striking, quiet


class NotMineToFinish(SQLAlchemyError):  # noqa: N818
    """The transaction is prepared; somebody else will finish it."""


@contextmanager
def preparing(work: Inside) -> Iterator[None]:
    """Some of the worker's transactions end with their first phase."""
    transaction = client.transaction
    end = work.until - quiet(work.plan)
    chance = random.Random(f"{work.plan.seed} {work.name} prepares")

    @asynccontextmanager
    async def by_two_phases(env: Environment, way: int) -> AsyncIterator[Work]:
        if current_session.get() is not None or time.monotonic() > end or chance.random() < 0.5:
            async with transaction(env, way) as found:
                yield found
            return
        with env.engine.connect() as connection:
            opened = connection.begin_twophase()
            try:
                yield Work(connection)
            except BaseException:
                opened.rollback()
                raise
            opened.prepare()
            connection.invalidate()  # and the server lets go of it
        raise NotMineToFinish

    client.transaction = by_two_phases
    yield
    client.transaction = transaction


class Finish(Striking):
    """Finishes what is prepared, after a while, most of it by COMMIT."""

    rests = False

    def __init__(self, stage: Stage, every: float) -> None:
        super().__init__(every)
        self._engine = stage.database.engine(poolclass=NullPool, isolation_level="AUTOCOMMIT")

    def strike(self) -> None:
        try:
            with self._engine.connect() as connection:
                for xid in connection.recover_twophase():
                    self._finish(connection, xid)
        except SQLAlchemyError:
            pass  # the server is away, or its owner has not let go yet

    def _finish(self, connection: Connection, xid: Any) -> None:
        how = "commit" if self.random.random() < 0.7 else "rollback"
        finish = connection.commit_prepared if how == "commit" else connection.rollback_prepared
        finish(xid, recover=True)
        self.scene.did("finish", how)

    def stop(self) -> None:
        super().stop()
        # Nothing was prepared for some time; what is left nobody else would finish.
        self.strike()


@contextmanager
def prepared(stage: Stage) -> Iterator[None]:
    stage.disturbers.append(Finish(stage, 0.015))
    stage.within(preparing)
    yield
