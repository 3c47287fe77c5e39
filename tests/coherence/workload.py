"""What a worker does: random requests in several threads, everything written down."""

from __future__ import annotations

import contextlib
import random
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, select
from sqlalchemy.orm import Session

from ..databases import Database
from . import broken
from .application import GROUP, Item, Process, Sum, item, make_engine, record
from .history import Log, Part, current_log
from .plan import Plan


class _Rollback(Exception):  # noqa: N818
    """A request changed its mind."""


class Thread:
    """One thread of a worker."""

    def __init__(self, plan: Plan, process: Process, log: Log) -> None:
        self.plan = plan
        self.process = process
        self.manager = process.cache_manager
        self.log = log
        self.random = random.Random(f"{plan.seed} {log.who}")
        self.number = 0
        self.requests = 0

    def run(self, until: float) -> None:
        """Do one request after the other."""
        current_log.set(self.log)
        kinds = [self.read_request, self.write_request, self.script, self.long, self.neighbour]
        while time.monotonic() < until:
            (kind,) = self.random.choices(kinds, [60, 27, 8, 2, 3])
            try:
                kind()
            except Exception as error:
                if not self.plan.explains(error):
                    raise
                # The transaction was rolled back, as an application would have to.
                self.log.add("error", type(getattr(error, "orig", None) or error).__name__)
            self.requests += 1

    # Kinds of requests

    def read_request(self) -> None:
        with self.request():
            for _ in range(self.random.randint(1, 6)):
                self.read()
                self.rest(0.05, 0.003)

    def write_request(self) -> None:
        with self.request():
            for _ in range(self.random.randint(0, 2)):
                self.read()
            names = self.names(self.random.randint(1, 3))
            committed = self.transaction(names)
            if committed and self.random.random() < 0.5:
                for name in names:
                    self.read(name)
            for _ in range(self.random.randint(0, 3)):
                self.read()

    def script(self) -> None:
        """Reads outside a request: each is as new as its call."""
        for _ in range(self.random.randint(1, 3)):
            self.log.add("request")
            self.log.count("checks")
            self.read()

    def long(self) -> None:
        """A transaction that is held open while others commit."""
        with self.request(), self.open() as connection:
            connection.execute(select(item.c.version))
            end = time.monotonic() + self.random.random() * self.plan.longest
            while time.monotonic() < end:
                self.read()
                time.sleep(0.005)

    def neighbour(self) -> None:
        """An invalidation by itself, or a pruning of the ledger."""
        if self.random.random() < 0.5:
            self.manager.prune(keep=20, batch=50)
            self.log.count("prunings")
            return
        with self.request():
            (name,) = self.names(1)
            self.read(name)
            self.log.add("del", name)
            del Item(self.process, name).value
            self.read(name)

    # Parts of requests

    @contextlib.contextmanager
    def request(self) -> Iterator[None]:
        self.log.add("request")
        with self.manager.request() as view:
            try:
                yield
            finally:
                self.log.count("checks", view.checks)
        self.log.add("end")

    def names(self, count: int) -> list[str]:
        # In one order, so that the rows' own locks do not deadlock; the first ones are hot.
        chosen = {int(self.random.paretovariate(0.7)) % self.plan.items for _ in range(count)}
        return [f"i{number}" for number in sorted(chosen)]

    def rest(self, chance: float, longest: float) -> None:
        if self.random.random() < chance:
            time.sleep(self.random.random() * longest)

    def read(self, name: str = "") -> None:
        """Read an item, or a sum it is part of."""
        name = name or self.names(1)[0]
        if self.random.random() < 0.3:
            number = int(name[1:]) // GROUP
            name, value = f"sum{number}", Sum(self.process, number).value
        else:
            value = Item(self.process, name).value
        self.log.add("read", name, value)

    def open(self) -> AbstractContextManager[Connection]:
        """A transaction, in one of the ways that an application has."""
        way = self.random.randrange(4)
        if way == 0:
            return self.manager.engine.begin()
        if way == 1:
            return self.by_session()
        return self.manager.begin()

    @contextlib.contextmanager
    def by_session(self) -> Iterator[Connection]:
        with Session(self.manager.engine) as session, session.begin():
            yield session.connection()

    def transaction(self, names: list[str]) -> bool:
        """Write *names* in a transaction; return whether it committed."""
        log = self.log
        try:
            with self.open() as connection:
                log.add("begin")
                self.rest(0.1, 0.01)
                for name in names:
                    self.change(connection, name)
                if self.random.random() < 0.3:
                    self.in_savepoint(connection, names)
                self.rest(0.2, 0.01)
                if self.random.random() < 0.3:
                    log.add("rollback")
                    raise _Rollback
                log.add("commit")
        except _Rollback:
            log.add("rolled-back")
            self.log.count("rollbacks")
            return False
        except BaseException:
            log.add("rollback")
            raise
        log.add("committed")
        self.log.count("commits")
        return True

    def change(self, connection: Connection, name: str) -> None:
        """Write an item and invalidate it, in either order, perhaps with reads between."""
        steps = self.random.choice(["write del", "del write", "write read del", "write del write"])
        self.rest_of(f"{steps} read" if self.random.random() < 0.5 else steps, connection, name)

    def rest_of(self, steps: str, connection: Connection, name: str) -> None:
        for step in steps.split():
            if step == "write":
                self.write(connection, name)
            elif step == "read":
                self.read(name)
            else:
                self.log.add("del", name)
                del Item(self.process, name).value

    def in_savepoint(self, connection: Connection, names: list[str]) -> None:
        """Change the items in a savepoint, which is released or rolled back."""
        self.number += 1
        label = f"s{self.number}"
        savepoint = connection.begin_nested()
        self.log.add("savepoint", label)
        for name in names:
            self.change(connection, name)
        if self.random.random() < 0.5:
            savepoint.commit()
            self.log.add("release", label)
        else:
            self.log.add("undo", label)
            savepoint.rollback()
        self.log.count("savepoints")
        for name in names:
            self.read(name)

    def write(self, connection: Connection, name: str) -> None:
        """Count the row's version up, under its lock, and name the write that did it."""
        self.number += 1
        write_id = f"{self.log.who}.{self.number}"
        row = item.c.name == name
        connection.execute(record.insert().values(write_id=write_id))
        connection.execute(
            item.update().where(row).values(version=item.c.version + 1, write_id=write_id)
        )
        version = connection.scalar(select(item.c.version).where(row))
        assert version is not None
        self.log.add("write", parts=[Part(name, version, write_id)])
        self.log.count("writes")


def work(plan: Plan, place: int, life: int, logs: Path, pipe: Any, done: Any) -> None:
    """A worker process: gets ready, is told until when, and runs its threads."""
    name = f"{place}.{life}"
    try:
        _work(plan, place, name, logs, pipe, done)
    except BaseException:
        (logs / f"{name}.error").write_text(traceback.format_exc())
        sys.exit(1)


def _work(plan: Plan, place: int, name: str, logs: Path, pipe: Any, done: Any) -> None:
    if plan.broken:
        broken.CACHES[plan.broken]()
    database = Database(plan.kind, plan.url)
    engine = make_engine(database, plan.isolation, pool_size=plan.threads + 2)
    process = Process(engine, **{"max_entries": 1_000, **plan.options})
    # In the worker's memory already: what it imports and connects to is not part of the run.
    try:
        Item(process, "i0").value  # noqa: B018
    except Exception as error:
        if not plan.explains(error):
            raise
    logged = [Log(who, logs / f"{who}.log") for who in (f"{name}.{n}" for n in range(plan.threads))]
    threads = [Thread(plan, process, log) for log in logged]
    pipe.send("ready")
    until = pipe.recv()
    failed: list[BaseException] = []

    def body(thread: Thread) -> None:
        try:
            thread.run(until)
        except BaseException as error:
            failed.append(error)

    running = [threading.Thread(target=body, args=(thread,)) for thread in threads]
    for one in running:
        one.start()
    for one in running:
        while one.is_alive():
            one.join(0.2)
            done[place] = sum(thread.requests for thread in threads)
    for log in logged:
        log.close()
    if failed:
        raise failed[0]
    process.cache_manager.close()
    database.dispose()
