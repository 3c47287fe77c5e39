"""What a worker does: random requests in several threads, everything written down."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import URL, Connection, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from ..databases import Database
from . import broken
from .application import GROUP, Counter, Item, Process, Sum, item, make_engine, record
from .history import Event, Log, Part


@dataclass(frozen=True)
class Plan:
    """What the workers are told."""

    kind: str
    url: URL
    isolation: str
    seconds: float = 3.0
    threads: int = 2
    items: int = 12
    seed: int = 0
    #: Transactions that stay open for so long at most, in seconds.
    longest: float = 0.15
    #: A cache with a protection taken out, see `broken`.
    broken: str = ""


@dataclass
class Report:
    """What a worker hands back."""

    events: list[Event] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    error: str = ""


class _Rollback(Exception):  # noqa: N818
    """A request changed its mind."""


class Thread:
    """One thread of a worker."""

    def __init__(self, plan: Plan, process: Process, counter: Counter, who: str) -> None:
        self.plan = plan
        self.process = process
        self.manager = process.cache_manager
        self.counter = counter
        self.log = Log(who)
        self.random = random.Random(f"{plan.seed} {who}")
        self.number = 0

    def run(self, until: float) -> None:
        """Do one request after the other."""
        kinds = [self.read_request, self.write_request, self.script, self.long, self.neighbour]
        while time.monotonic() < until:
            (kind,) = self.random.choices(kinds, [60, 27, 8, 2, 3])
            try:
                kind()
            except DBAPIError as error:
                # A conflict that the isolation level or the locks lead to: the transaction was
                # rolled back, as an application would have to.
                self.counter.add(f"error {type(error.orig).__name__}")
                self.counter.add("errors")
            self.counter.add("requests")

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
            self.counter.add("checks")
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
            self.counter.add("prunings")
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
                self.counter.add("checks", view.checks)
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
            self.counter.add("rollbacks")
            return False
        except BaseException:
            log.add("rollback")
            raise
        log.add("committed")
        self.counter.add("commits")
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
        self.counter.add("savepoints")
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
        self.counter.add("writes")


def work(plan: Plan, number: int, start: Any, reports: Any, progress: Any) -> None:
    """A worker process: runs the threads and sends back a `Report`."""
    report = Report()
    try:
        _work(plan, number, start, progress, report)
    except BaseException as error:
        report.error = report.error or repr(error)
    reports.send(report)
    reports.close()


def _work(plan: Plan, number: int, start: Any, progress: Any, report: Report) -> None:
    if plan.broken:
        broken.CACHES[plan.broken]()
    database = Database(plan.kind, plan.url)
    engine = make_engine(database, plan.isolation, pool_size=plan.threads + 2)
    process = Process(engine, max_entries=1_000)
    counter = Counter()
    # In the worker's memory already: what it imports and connects to is not part of the run.
    Item(process, "i0").value  # noqa: B018
    threads = [Thread(plan, process, counter, f"{number}.{index}") for index in range(plan.threads)]
    start.wait()
    until = time.monotonic() + plan.seconds

    def body(thread: Thread) -> None:
        try:
            thread.run(until)
        except BaseException as error:
            report.error = f"{thread.log.who}: {error!r}"
            raise

    running = [threading.Thread(target=body, args=(thread,)) for thread in threads]
    for one in running:
        one.start()
    for one in running:
        while one.is_alive():
            one.join(0.2)
            with progress.get_lock():
                progress[number] = counter.counts.get("requests", 0)
    for thread in threads:
        report.events += thread.log.events
    counter.add("loads", process.cache_manager.statistics.loads)
    report.counts = counter.counts
    process.cache_manager.close()
    database.dispose()
