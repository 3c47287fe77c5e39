"""What the hard cases share: who else acts, and where a transaction is stopped meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar
from unittest.mock import ANY

from sqlalchemy import Engine, text
from sqlalchemy.orm import DeclarativeBase, Session

from coherent_cache import cached
from coherent_cache.ledger.postgresql import CALM

from ..databases import Database
from ..workers import PageText, Worker, page
from ..written import once_written

_T = TypeVar("_T")

LEVELS = ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"]
SECONDS = 20


class Thread(threading.Thread):
    """A thread of this process, with a context of its own; `result` waits for what it returns."""

    def __init__(self, function: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self._function = function
        self._result: Any = None
        self._error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self._result = self._function()
        except BaseException as error:
            self._error = error

    def result(self) -> Any:
        self.join(SECONDS)
        assert not self.is_alive(), "the thread waits for something that does not come"
        if self._error is not None:
            raise self._error
        return self._result


def in_thread(function: Callable[[], _T]) -> _T:
    """Let another thread of this process do it, and wait for it."""
    result: _T = Thread(function).result()
    return result


class Gate:
    """Where a thread stops until it is let through."""

    def __init__(self) -> None:
        self._reached = threading.Event()
        self._opened = threading.Event()

    def stop(self) -> None:
        """Called by the one who stops here."""
        self._reached.set()
        assert self._opened.wait(SECONDS), "nobody opened the gate"

    def wait(self) -> None:
        """Wait until somebody stands here."""
        assert self._reached.wait(SECONDS), "nobody came to the gate"

    def open(self) -> None:
        self._opened.set()


def check(worker: Worker) -> None:
    """Let *worker*'s process look at the ledger, without reading any of the pages again."""
    in_thread(lambda: worker.cache_manager.get("looked at by the test", lambda: None))


def check_until_calm(worker: Worker) -> None:
    """Let *worker*'s process look so often that its next look asks PostgreSQL for the snapshot
    alone, because nothing was committed meanwhile."""
    deadline = time.monotonic() + SECONDS
    while worker.cache_manager.core.access._current().reader._position.calm != CALM:
        assert time.monotonic() < deadline, "somebody commits all the time"
        check(worker)


def at_level(worker: Worker, level: str | None, **options: Any) -> Worker:
    """Another process, whose transactions run at *level*; it waits for no lock longer than 2 s."""
    return Worker(worker.database, engine=impatient(worker.database, level), **options)


def impatient(database: Database, level: str | None = None, *, settings: str = "") -> Engine:
    """An engine whose statements fail when they have to wait for another transaction."""
    engine_options: dict[str, Any] = {} if level is None else {"isolation_level": level}
    if database.kind == "postgresql":
        engine_options["connect_args"] = {"options": f"-c lock_timeout=2000 {settings}"}
    elif database.kind == "mariadb":
        settings = f", {settings}" if settings else ""
        engine_options["connect_args"] = {
            "init_command": f"SET SESSION innodb_lock_wait_timeout = 2{settings}"
        }
    return database.engine(**engine_options)


def while_committing(engine: Engine, action: Callable[[], Any]) -> None:
    """Do *action* in the next COMMIT on *engine*: its ledger rows are written, it is still open."""
    once_written(engine, lambda _: action())


def loads(*workers: Worker) -> Any:
    """How many values the processes have computed.

    On PostgreSQL a transaction that anybody keeps open, in any database of the server, holds the
    horizon back; without a row below it a process drops everything once more when it moves.  Then
    there is nothing to count, and this equals any number.
    """
    for worker in workers:
        position = worker.cache_manager.core.access._connections.reader._position
        if worker.database.kind == "postgresql" and (
            position is None or position.anchor.generation < 0
        ):
            return ANY
    return [worker.cache_manager.statistics.loads for worker in workers]


def operator(database: Database, *statements: str) -> None:
    """Somebody with a database client: nothing that the library sees."""
    engine = database.engine()
    with engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
    engine.dispose()


def stored(database: Database, name: str = "Front") -> str | None:
    """What the database holds, for somebody who does not know the library."""
    engine = database.engine()
    with engine.connect() as connection:
        found: str | None = connection.scalar(
            text("SELECT text FROM page WHERE name = :name"), {"name": name}
        )
    engine.dispose()
    return found


def ledger_rows(database: Database, columns: str = "generation") -> list[Any]:
    """The rows of the ledger that are invalidations, oldest first."""
    columns = "`key`" if columns == "key" and database.kind == "mariadb" else columns
    engine = database.engine()
    with engine.connect() as connection:
        rows = connection.execute(
            text(
                f"SELECT {columns} FROM cache WHERE generation > 0 AND lane >= 0 "
                f"ORDER BY generation"
            )
        ).all()
    engine.dispose()
    return [tuple(row) for row in rows]


class Base(DeclarativeBase):
    pass


class Page(Base):
    """The page as an ORM object."""

    __table__ = page


class OrmText:
    """A page's text, computed from the object that an ORM session has."""

    def __init__(self, env: Worker, session: Session, name: str = "Front") -> None:
        self.env = env
        self.session = session
        self.name = name

    @cached("name")
    def text(self) -> str | None:
        found = self.session.get(Page, self.name)
        return None if found is None else found.text


def orm_read(worker: Worker) -> str | None:
    """`OrmText` of a request with a session of its own."""
    with worker.cache_manager.request(), Session(worker.engine) as session:
        return OrmText(worker, session).text


def orm_write(worker: Worker, text: str) -> None:
    """Change the page and invalidate `OrmText`."""
    with Session(worker.engine) as session:
        found = session.get(Page, "Front")
        if found is None:
            session.add(Page(name="Front", text=text, version=0))
        else:
            found.text = text
        del OrmText(worker, session).text
        del PageText(worker, "Front").text
        session.commit()
