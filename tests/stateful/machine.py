"""The programs: what clients do, one step at a time, each in a context of its own."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context
from typing import Any, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from coherent_cache import cached

from ..databases import Database
from ..workers import PageText, Worker, metadata, page, put
from .model import Expected, Truth

_T = TypeVar("_T")

NAMES = "xy"


class Both:
    """A value computed from two others."""

    def __init__(self, env: Worker) -> None:
        self.env = env

    @cached
    def texts(self) -> tuple[str | None, ...]:
        return tuple(PageText(self.env, name).text for name in NAMES)


class Slow:
    """A page's text whose retriever takes its time after it has read."""

    meanwhile: Callable[[], None] | None = None

    def __init__(self, env: Worker, name: str) -> None:
        self.env = env
        self.name = name

    @cached("name")
    def text(self) -> str | None:
        found = PageText.text.retriever(self)  # type: ignore[arg-type]
        if Slow.meanwhile is not None:
            Slow.meanwhile()
        return found


def hurried(database: Database, level: str | None) -> Engine:
    """An engine on which nobody waits for a lock: one thread plays all clients."""
    options: dict[str, Any] = {} if level is None else {"isolation_level": level}
    if database.kind == "postgresql":
        options["connect_args"] = {"options": "-c lock_timeout=20 -c synchronous_commit=off"}
    elif database.kind == "mariadb":
        options["connect_args"] = {"init_command": "SET SESSION innodb_lock_wait_timeout = 0"}
    else:
        options["connect_args"] = {"timeout": 0}
    return database.engine(**options)


class Client:
    """One process of the application, and what it has open."""

    def __init__(self, database: Database, level: str | None, truth: Truth) -> None:
        self.worker = Worker(database, engine=hurried(database, level))
        self.expected = Expected(truth)
        self.context = Context()
        self.request: Any = None
        self.connection: Any = None
        self.savepoints: list[Any] = []

    def do(self, function: Callable[..., _T], *arguments: Any) -> _T:
        return self.context.run(function, *arguments)

    def invalidate(self, name: str) -> None:
        del PageText(self.worker, name).text
        del Slow(self.worker, name).text

    def fails(self, function: Callable[[], object]) -> bool:
        """Whether the step cannot be taken, since somebody else is in the way: then the
        transaction is over."""
        try:
            self.do(function)
        except DBAPIError:
            if self.connection is not None:
                self.leave(self.connection.rollback)
            return True
        return False

    def leave(self, how: Callable[[], None]) -> None:
        """The transaction ends without a commit."""
        connection, self.connection, self.savepoints = self.connection, None, []
        self.do(how)
        self.do(connection.close)
        self.expected.rollback()

    def close(self) -> None:
        if self.connection is not None:
            self.leave(self.connection.rollback)
        if self.request is not None:
            self.do(self.request.__exit__, None, None, None)
        self.worker.cache_manager.close()
        self.worker.engine.dispose()


names = st.sampled_from(NAMES)


def step(condition: Callable[[Client], object], **arguments: st.SearchStrategy[Any]) -> Any:
    """A rule for a client that *condition* holds of; no step for nothing in a program."""

    def those(programs: Programs) -> list[str]:
        return [name for name, client in programs.clients.items() if condition(client)]

    chosen = st.runner().flatmap(lambda programs: st.sampled_from(those(programs)))

    def decorate(function: Callable[..., None]) -> Any:
        return precondition(lambda self: bool(those(self)))(
            rule(client=chosen, **arguments)(function)
        )

    return decorate


def anyone(client: Client) -> bool:
    return True


def idle(client: Client) -> bool:
    return client.request is None and client.connection is None


def in_request(client: Client) -> bool:
    return client.request is not None and client.connection is None


def in_transaction(client: Client) -> bool:
    return client.connection is not None


def in_savepoint(client: Client) -> bool:
    return bool(client.savepoints)


class Programs(RuleBasedStateMachine):
    """*who* are the clients."""

    def __init__(self, database: Database, level: str | None, who: str = "AB") -> None:
        super().__init__()
        self.database, self.level = database, level
        self.truth = Truth(NAMES)
        self.versions = 0
        self.clients = {name: Client(database, level, self.truth) for name in who}

    def teardown(self) -> None:
        for client in self.clients.values():
            client.close()
        self.database.dispose()

    def _version(self) -> str:
        self.versions += 1
        return f"version {self.versions}"

    # Requests

    @step(idle)
    def begin_request(self, client: str) -> None:
        c = self.clients[client]
        c.request = c.worker.cache_manager.request()
        c.do(c.request.__enter__)
        c.expected.begin_request()

    @step(in_request)
    def end_request(self, client: str) -> None:
        c = self.clients[client]
        request, c.request = c.request, None
        c.do(request.__exit__, None, None, None)
        c.expected.end_request()

    # Transactions

    @step(lambda client: not in_transaction(client))
    def begin(self, client: str) -> None:
        self._begin(self.clients[client])

    def _begin(self, c: Client) -> None:
        if c.connection is None:
            c.connection = c.do(c.worker.engine.connect)
            c.do(c.connection.begin)
            c.expected.begin()

    @step(anyone, name=names)
    def write(self, client: str, name: str) -> None:
        c = self.clients[client]
        self._begin(c)
        value = self._version()
        if not c.fails(lambda: put(c.connection, name, value)):
            c.expected.write(name, value)

    @step(anyone, name=names)
    def delete(self, client: str, name: str) -> None:
        c = self.clients[client]
        self._begin(c)
        if not c.fails(lambda: c.invalidate(name)):
            c.expected.delete(name)

    @step(in_transaction)
    def commit(self, client: str) -> None:
        """What was written without its `del` is invalidated now: else it is the user's mistake."""
        c = self.clients[client]
        for name in sorted(c.expected.not_yet_dropped()):
            c.do(c.invalidate, name)
            c.expected.delete(name)
        if not c.fails(c.connection.commit):
            connection, c.connection, c.savepoints = c.connection, None, []
            c.do(connection.close)
            c.expected.commit()

    @step(in_transaction)
    def rollback(self, client: str) -> None:
        c = self.clients[client]
        c.leave(c.connection.rollback)

    @step(in_transaction)
    def savepoint(self, client: str) -> None:
        c = self.clients[client]
        c.savepoints.append(c.do(c.connection.begin_nested))
        c.expected.savepoint()

    @step(in_savepoint)
    def release(self, client: str) -> None:
        c = self.clients[client]
        if not c.fails(c.savepoints[-1].commit):
            c.savepoints.pop()
            c.expected.release()

    @step(in_savepoint)
    def rollback_to_savepoint(self, client: str) -> None:
        c = self.clients[client]
        if not c.fails(c.savepoints[-1].rollback):
            c.savepoints.pop()
            c.expected.rollback_to()
            c.expected.release()

    @step(in_transaction, with_the_process=st.booleans())
    def connection_is_lost(self, client: str, with_the_process: bool) -> None:
        """The request goes on without its transaction; or the process is gone, and another takes
        its place."""
        c = self.clients[client]
        c.leave(c.connection.invalidate)
        if with_the_process:
            c.close()
            self.clients[client] = Client(self.database, self.level, self.truth)

    # Reads

    def _read(self, c: Client, slot: str, names: str, read: Callable[[], object]) -> None:
        moment = c.expected.start_read()
        values: list[object] = []
        if not c.fails(lambda: values.append(read())):
            c.expected.check(slot, names, values[0], moment)

    @step(anyone, name=names)
    def read(self, client: str, name: str) -> None:
        c = self.clients[client]
        self._read(c, f"text of {name}", name, lambda: PageText(c.worker, name).text)

    @step(anyone)
    def read_both(self, client: str) -> None:
        c = self.clients[client]
        self._read(c, "both", NAMES, lambda: Both(c.worker).texts)

    @step(anyone, name=names)
    def read_in_another_thread(self, client: str, name: str) -> None:
        """Of the same process, in a request of its own."""
        c = self.clients[client]
        try:
            found = Context().run(c.worker.read, name)
        except DBAPIError:
            return
        assert found in self.truth.since(name, self.truth.now), f"{name} is {found!r}"

    @step(anyone, name=names)
    def read_slowly(self, client: str, name: str) -> None:
        """While the retriever runs, the page changes and the process looks at the ledger."""
        c = self.clients[client]

        def meanwhile() -> None:
            Slow.meanwhile = None
            value = self._version()
            try:
                Context().run(self._write_elsewhere, name, value)
            except DBAPIError:
                return
            self.truth.commit({name: value})
            Context().run(c.worker.cache_manager.get, "looked at", lambda: None)

        Slow.meanwhile = meanwhile
        try:
            self._read(c, f"slow text of {name}", name, lambda: Slow(c.worker, name).text)
        finally:
            Slow.meanwhile = None

    def _write_elsewhere(self, name: str, value: str) -> None:
        worker = self.clients["A"].worker
        with worker.cache_manager.begin() as connection:
            put(connection, name, value)
            self.clients["A"].invalidate(name)

    # The surroundings

    @step(anyone, what=st.sampled_from(["check", "evict", "prune"]))
    def beside(self, client: str, what: str) -> None:
        """The process looks at the ledger in another thread, empties its store, or prunes."""
        manager = self.clients[client].worker.cache_manager
        try:
            if what == "check":
                Context().run(manager.get, "looked at", lambda: None)
            elif what == "evict":
                manager.evict()
            else:
                Context().run(lambda: manager.prune(keep=1))
        except DBAPIError:
            return


def prepare(database: Database) -> None:
    """The tables, made once; `restart` goes before each program."""
    worker = Worker(database)
    worker.cache_manager.create_table()
    metadata.create_all(worker.engine)
    worker.cache_manager.close()
    database.dispose()


def restart(database: Database) -> None:
    """Nobody caches anything yet, so nothing has to be invalidated."""
    engine = database.engine()
    with engine.begin() as connection:
        connection.execute(page.delete())
        connection.execute(page.insert(), [{"name": n, "text": "start"} for n in NAMES])
    engine.dispose()
