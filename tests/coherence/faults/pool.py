"""The pool has one connection for many threads, and somebody keeps that for a while."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from ..history import Log
from ..plan import FAULTS
from ..workloads.tables import item
from ..workloads.worker import Inside
from .stage import Stage
from .striking import quiet


@contextmanager
def keeping(work: Inside) -> Iterator[None]:
    """A thread of the application takes the connection and does not give it back for a while."""
    log = Log("fault", work.logs / "fault.log")
    chance = random.Random(f"{work.plan.seed} {work.name} keeps")
    over = threading.Event()
    engine = work.env.cache_manager.engine

    def keep() -> None:
        while not over.wait(chance.uniform(0.05, 0.3)):
            try:
                with engine.connect() as connection:
                    connection.execute(select(item.c.version))
                    log.add("exhaust", work.name)
                    over.wait(chance.uniform(0.1, 0.3))
            except SQLAlchemyError:
                pass

    keeper = threading.Thread(target=keep)
    timer = threading.Timer(work.until - quiet(work.plan) - time.monotonic(), over.set)
    keeper.start()
    timer.start()
    yield
    timer.cancel()
    over.set()
    keeper.join()
    log.close()


@contextmanager
def pool(stage: Stage) -> Iterator[None]:
    options = {"pool_size": 1, "max_overflow": 0, "pool_timeout": 0.03}
    stage.change(threads=4, engine={**stage.plan.engine, **options}, tolerate=FAULTS)
    stage.within(keeping)
    yield
