"""Transactions that are prepared by one session, which then ends, and finished by another."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from ..workload import Thread, Work
from .stage import Stage
from .striking import Striking, quiet


class NotMineToFinish(SQLAlchemyError):
    """The transaction is prepared; somebody else will finish it."""


@contextmanager
def preparing(work: Work) -> Iterator[None]:
    """Some of the worker's transactions end with their first phase."""
    way_of = Thread.open
    end = work.until - quiet(work.plan)

    @contextlib.contextmanager
    def by_two_phases(self: Thread) -> Iterator[Connection]:
        with self.manager.engine.connect() as connection:
            transaction = connection.begin_twophase()
            try:
                yield connection
            except BaseException:
                transaction.rollback()
                raise
            transaction.prepare()
            connection.invalidate()  # and the server lets go of it
        raise NotMineToFinish

    def open_(self: Thread) -> AbstractContextManager[Connection]:
        if time.monotonic() < end and self.random.random() < 0.5:
            return by_two_phases(self)
        return way_of(self)

    Thread.open = open_  # type: ignore[method-assign]
    yield
    Thread.open = way_of  # type: ignore[method-assign]


class Finish(Striking):
    """Finishes what is prepared, after a while, most of it by COMMIT."""

    rests = False

    def __init__(self, stage: Stage, every: float) -> None:
        super().__init__(every)
        self._engine = stage.database.engine(poolclass=NullPool, isolation_level="AUTOCOMMIT")
        self._empty = threading.Event()

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
