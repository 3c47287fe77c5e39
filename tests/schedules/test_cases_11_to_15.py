"""Hard cases 11 to 15 as exact schedules."""

from __future__ import annotations

import contextvars
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from sqlalchemy import event, select
from sqlalchemy.orm import Session

from coherent_cache import cached
from coherent_cache.core import Core
from coherent_cache.errors import InvalidationError
from coherent_cache.wsgi import CacheMiddleware

from ..children import fork, kill_self
from ..databases import Database
from ..workers import PageText, Worker, page, put
from .gates import gates
from .schedule import Schedule

# 11: killed anywhere

MOMENTS_OF_A_COMMIT = {
    "del: transactions found, nothing pending": "old",
    "del: pending, view not told": "old",
    "commit: rows not written": "old",
    "commit: rows numbered, not inserted": "old",
    "commit: rows written, not committed": "old",
    "end: returned, views not told": "new",
    "end: views told": "new",
}


@pytest.mark.parametrize("moment", MOMENTS_OF_A_COMMIT)
@pytest.mark.usefixtures("two_statements")
def test_case_11_killed_at_each_moment_of_a_commit(worker: Worker, moment: str) -> None:
    """Data and invalidation have one fate, whenever the process is killed."""
    worker.write("Front", "old")
    assert worker.read("Front") == "old"
    worker.engine.dispose()
    database = worker.database

    def die() -> None:
        victim = Worker(database)
        with gates([moment], lambda _: kill_self()):
            victim.write("Front", "new")

    fork(die).wait_for_kill()
    _wait_for_the_server(worker)
    assert worker.read("Front") == MOMENTS_OF_A_COMMIT[moment]
    worker.write("Front", "newest")
    assert worker.read("Front") == "newest"


def _wait_for_the_server(worker: Worker) -> None:
    """Return when the server has done away with the one who was killed: its row is free."""
    if not worker.database.is_sqlite:
        with worker.engine.begin() as connection:
            connection.execute(select(page).with_for_update()).all()


MOMENTS_OF_A_LOOK = ["check: news read, not applied", "check: news applied, position not moved"]


@pytest.mark.parametrize("moment", MOMENTS_OF_A_LOOK)
def test_case_11_interrupted_at_each_moment_of_a_look(
    worker: Worker, other: Worker, moment: str
) -> None:
    """A timeout, or Ctrl-C, in the middle of a look: its news are not taken for applied."""
    worker.write("Front", "old")
    assert other.read("Front") == "old"
    worker.write("Front", "new")

    def interrupt(_: str) -> None:
        raise KeyboardInterrupt

    with gates([moment], interrupt), pytest.raises(KeyboardInterrupt):
        other.read("Front")
    assert other.read("Front") == "new"


# 12: fork


def write_and_read(worker: Worker) -> list[Any]:
    """What a forked child does first."""
    before = worker.read("Front")
    worker.write("Front", "the child's")
    worker.cache_manager.invalidate("another key")
    return [before, worker.read("Front"), worker.wiki.names]


@pytest.mark.parametrize(
    "moment",
    [
        "store: in the middle of a change",  # the store's lock is held
        "check: news read, not applied",  # the reader's mutex
        "load: data read, transactions not asked",  # others wait for the load
    ],
)
def test_case_12_fork_while_another_thread_stands(
    worker: Worker, other: Worker, schedule: Schedule, moment: str
) -> None:
    """Nobody in the child will ever go on from there, nor release what is held."""
    other.write("Front", "old")
    assert worker.read("Front") == "old"
    other.write("Back", "text")  # there is news
    del PageText(other, "Front").text
    played = schedule(
        f"""
        thread  reaches  {moment}
        forker  ends
        thread  ends
        """,
        thread=lambda: worker.read("Front"),
        forker=lambda: fork(lambda: write_and_read(worker)).join(),
    )
    assert played["forker"] == ["old", "the child's", {"Front", "Back"}]
    assert worker.read("Front") == other.read("Front") == "the child's"


def test_case_12_fork_while_another_thread_joins_a_load(
    worker: Worker, other: Worker, schedule: Schedule
) -> None:
    """The lock of the flights is held, and one is under way."""
    other.write("Front", "old")
    played = schedule(
        """
        leader  reaches  load: label taken, no data read
        second  reaches  load: another is under way, not joined
        forker  ends
        second  goes on
        leader  ends
        second  ends
        """,
        leader=lambda: worker.read("Front"),
        second=lambda: worker.read("Front"),
        forker=lambda: fork(lambda: write_and_read(worker)).join(),
    )
    assert played["forker"] == ["old", "the child's", {"Front"}]
    assert worker.read("Front") == other.read("Front") == "the child's"


@pytest.mark.on("sqlite-memory")
def test_case_12_fork_while_another_thread_looks_in_memory(
    worker: Worker, schedule: Schedule
) -> None:
    """The mutex of the position in an in-memory database, where each thread has its own."""

    def read() -> str:
        worker.cache_manager.create_table()
        return worker.cache_manager.get("key", lambda: "computed")

    played = schedule(
        """
        thread  reaches  check: news read, not applied
        forker  ends
        thread  ends
        """,
        thread=read,
        forker=lambda: fork(read).join(),
    )
    assert played == {"thread": "computed", "forker": "computed"}


@pytest.mark.on("postgresql", "mariadb")
@pytest.mark.usefixtures("two_statements")
def test_case_12_fork_while_another_thread_invalidates(
    worker: Worker, other: Worker, schedule: Schedule
) -> None:
    """The mutex of the connection that invalidates is held, and so is its transaction.  (SQLite
    has one lock for writing: the child would wait for the parent.)"""
    worker.write("Front", "old")
    assert other.read("Front") == "old"
    played = schedule(
        """
        thread  reaches  commit: rows numbered, not inserted
        forker  ends
        thread  ends
        """,
        thread=lambda: worker.cache_manager.invalidate("another key"),
        forker=lambda: fork(lambda: write_and_read(worker)).join(),
    )
    assert played["forker"] == ["old", "the child's", {"Front"}]
    assert worker.read("Front") == other.read("Front") == "the child's"


# 13: streaming


def test_case_13_commit_between_two_blocks_of_a_body(
    worker: Worker, other: Worker, schedule: Schedule
) -> None:
    """The view function has returned and the body is being sent; another process commits and
    another thread of this one reads the new value."""
    other.write("Front", "old")

    def application(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        for _ in range(2):
            yield (PageText(worker, "Front").text or "").encode()

    def serve() -> list[bytes]:
        sent = []
        body = CacheMiddleware(application, worker.cache_manager)({}, lambda *_: lambda _: None)
        for block in body:
            sent.append(block)
            schedule.at("a block is sent")
        body.close()  # type: ignore[attr-defined]
        schedule.at("the body is closed")
        sent.append((worker.read("Front") or "").encode())
        return sent

    played = schedule(
        """
        server  reaches  a block is sent
        writer  ends
        reader  ends
        server  reaches  a block is sent
        server  reaches  the body is closed
        server  ends
        """,
        server=serve,
        writer=lambda: other.write("Front", "new"),
        reader=lambda: worker.read("Front"),
    )
    assert played["server"] == [b"old", b"old", b"new"]
    assert played["reader"] == "new"


# 14: threads of a pool


@pytest.mark.on("sqlite-wal", "postgresql", "mariadb")
def test_case_14_another_thread_begins_while_the_del_looks_around(
    worker: Worker, other: Worker, schedule: Schedule
) -> None:
    """A request of two threads.  One has found the transactions its del belongs to; the other one
    begins and ends a transaction of its own meanwhile, in the same request."""
    worker.write("Front", "old")
    assert other.read("Front") == "old"
    with worker.cache_manager.request():
        session = Session(worker.engine)
        contexts = [contextvars.copy_context() for _ in range(2)]

        def endpoint() -> None:
            session.execute(page.update().values(text="new"))
            del PageText(worker, "Front").text
            session.commit()

        def helper() -> None:
            with worker.engine.connect() as connection:
                connection.execute(select(page)).all()
                schedule.at("it has begun")

        played = schedule(
            """
            helper    reaches  transaction: begun, nothing executed
            endpoint  reaches  del: transactions found, nothing pending
            helper    reaches  it has begun
            helper    ends
            endpoint  reaches  commit: rows written, not committed
            before    ends
            endpoint  ends
            after     ends
            """,
            helper=lambda: contexts[0].run(helper),
            endpoint=lambda: contexts[1].run(endpoint),
            before=lambda: other.read("Front"),
            after=lambda: other.read("Front"),
        )
        session.close()
        assert PageText(worker, "Front").text == "new"
    assert (played["before"], played["after"]) == ("old", "new")


@pytest.mark.on("sqlite-wal", "postgresql", "mariadb")
def test_case_14_one_thread_reads_while_another_commits(worker: Worker, schedule: Schedule) -> None:
    """Two threads of a request: one has looked and its view does not know yet; the other commits.
    That look was before the commit, and is not taken for one after it."""
    worker.write("Front", "old")
    with worker.cache_manager.request():
        contexts = [contextvars.copy_context() for _ in range(2)]
        played = schedule(
            """
            reader  reaches  look: done, view not told
            writer  ends
            reader  ends
            """,
            reader=lambda: contexts[0].run(lambda: worker.wiki.names),
            writer=lambda: contexts[1].run(_write_without_looking, worker),
        )
        assert played["reader"] == {"Front"}
        assert PageText(worker, "Front").text == "new"
    assert worker.read("Front") == "new"


@pytest.mark.on("sqlite-wal", "postgresql", "mariadb")
@pytest.mark.parametrize("end", [Session.commit, Session.rollback])
@pytest.mark.parametrize("has_begun", [True, False], ids=["transaction", "session"])
def test_case_14_a_del_while_another_threads_transaction_ends(
    worker: Worker,
    other: Worker,
    schedule: Schedule,
    has_begun: bool,
    end: Callable[[Session], None],
) -> None:
    """A request of two threads.  One invalidates what was written elsewhere and is committed; all
    that is open is a transaction of the other's, or its session, which ends at that moment and
    takes nothing along any more."""
    worker.write("Front", "old")
    assert other.read("Front") == "old"
    with worker.cache_manager.request():
        session = Session(worker.engine)
        session.begin()
        if has_begun:
            session.execute(select(page)).all()
        contexts = [contextvars.copy_context() for _ in range(2)]
        _write_unseen(worker.database, "new")
        schedule(
            """
            deleter    reaches  del: transactions found, nothing pending
            committer  ends
            deleter    ends
            """,
            deleter=lambda: contexts[0].run(_invalidate, worker),
            committer=lambda: contexts[1].run(end, session),
        )
    assert other.read("Front") == "new"


@pytest.mark.on("sqlite-wal", "postgresql", "mariadb")
def test_case_14_a_del_after_another_threads_commit_of_no_keys(
    worker: Worker, other: Worker, schedule: Schedule
) -> None:
    """The same when the database has committed, and the process does not know yet."""
    worker.write("Front", "old")
    assert other.read("Front") == "old"
    with worker.cache_manager.request():
        session = Session(worker.engine)
        session.execute(select(page)).all()
        contexts = [contextvars.copy_context() for _ in range(2)]
        _write_unseen(worker.database, "new")
        schedule(
            """
            committer  reaches  end: returned, views not told
            deleter    ends
            committer  ends
            """,
            deleter=lambda: contexts[0].run(_invalidate, worker),
            committer=lambda: contexts[1].run(session.commit),
        )
    assert other.read("Front") == "new"


@pytest.mark.on("sqlite-wal", "postgresql", "mariadb")
@pytest.mark.parametrize("name", ["after_commit", "after_soft_rollback"])
def test_case_14_a_del_while_another_threads_session_ends(
    worker: Worker, other: Worker, schedule: Schedule, name: str
) -> None:
    """The same with a session that had no transaction of the database's, when what waited with it
    was taken and it has not ended."""
    worker.write("Front", "old")
    assert other.read("Front") == "old"
    with worker.cache_manager.request():
        session = Session(worker.engine)
        session.begin()
        event.listen(session, name, lambda *_: schedule.at("it was told"))
        contexts = [contextvars.copy_context() for _ in range(2)]
        _write_unseen(worker.database, "new")
        end = session.commit if name == "after_commit" else session.rollback
        schedule(
            """
            committer  reaches  it was told
            deleter    ends
            committer  ends
            """,
            deleter=lambda: contexts[0].run(_invalidate, worker),
            committer=lambda: contexts[1].run(end),
        )
    assert other.read("Front") == "new"


@pytest.mark.on("postgresql", "mariadb")
@pytest.mark.parametrize("is_in_it", [True, False], ids=["in-it", "elsewhere"])
def test_case_14_a_del_during_another_threads_commit(
    worker: Worker, other: Worker, schedule: Schedule, is_in_it: bool
) -> None:
    """The same while the other's keys are written and its COMMIT is not: at once, for what was
    written elsewhere, and after it once more, for what is in that transaction."""
    worker.write("Front", "old")
    assert other.read("Front") == "old"
    with worker.cache_manager.request():
        session = Session(worker.engine)
        session.execute(select(page)).all()
        worker.cache_manager.invalidate("another", session=session)
        contexts = [contextvars.copy_context() for _ in range(2)]
        if is_in_it:
            session.execute(page.update().values(text="new"))
        else:
            _write_unseen(worker.database, "new")
        played = schedule(
            """
            committer  reaches  commit: rows written, not committed
            deleter    ends
            reader     ends
            committer  ends
            """,
            deleter=lambda: contexts[0].run(_invalidate, worker),
            committer=lambda: contexts[1].run(session.commit),
            reader=lambda: other.read("Front"),
        )
    assert played["reader"] == ("old" if is_in_it else "new")
    assert other.read("Front") == "new"


@pytest.mark.on("postgresql", "mariadb")
def test_case_14_what_came_during_a_commit_cannot_be_invalidated_again(
    worker: Worker,
    schedule: Schedule,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What came during a COMMIT was invalidated at once; that it cannot be after it as well is no
    reason for the COMMIT to fail, which has gone well."""
    worker.write("Front", "old")
    now = Core.invalidate_now
    made = []

    def once(core: Core, keys: Sequence[str]) -> None:
        made.append(keys)
        if len(made) > 1:
            raise InvalidationError("a test", keys=())
        now(core, keys)

    monkeypatch.setattr(Core, "invalidate_now", once)
    with worker.cache_manager.request():
        session = Session(worker.engine)
        session.execute(page.update().values(text="new"))
        worker.cache_manager.invalidate("another", session=session)
        contexts = [contextvars.copy_context() for _ in range(2)]
        with caplog.at_level(logging.ERROR, "coherent_cache"):
            schedule(
                """
                committer  reaches  commit: rows written, not committed
                deleter    ends
                committer  ends
                """,
                deleter=lambda: contexts[0].run(worker.cache_manager.invalidate, "late"),
                committer=lambda: contexts[1].run(session.commit),
            )
    assert made == [["late"], ["late"]]
    assert "1 keys that came during a COMMIT" in caplog.text
    assert worker.read("Front") == "new"


def _write_unseen(database: Database, text: str) -> None:
    """Write to the page on an engine that no manager watches."""
    with database.engine().begin() as connection:
        put(connection, "Front", text)


def _invalidate(worker: Worker) -> None:
    del PageText(worker, "Front").text


def _write_without_looking(worker: Worker) -> None:
    with worker.cache_manager.begin() as connection:
        put(connection, "Front", "new")
        del PageText(worker, "Front").text


# 15: inheritance and names


class Base:
    def __init__(self, env: Worker) -> None:
        self.env = env

    @cached
    def text(self) -> str:
        with self.env.cache_manager.connect() as connection:
            return str(connection.scalar(select(page.c.text)))


class Child(Base):
    @cached
    def text(self) -> str:
        return f"child of {super().text}"


def _twin(database: Database) -> type[Base]:
    class Base:
        __qualname__ = "Base"

        def __init__(self, env: Worker) -> None:
            self.env = env

        @cached
        def text(self) -> str:
            return f"twin on {database.kind}"

    return Base  # type: ignore[return-value]


def test_case_15_loads_of_one_name_at_once(
    worker: Worker, other: Worker, schedule: Schedule
) -> None:
    """Values that share a name are computed at the same time: nobody waits for another one's, none
    is taken for another, and one del reaches all of them."""
    other.write("Front", "old")
    twin = _twin(worker.database)

    def all_of_them() -> list[str]:
        return [Base(worker).text, Child(worker).text, twin(worker).text]

    played = schedule(
        """
        base    reaches  load: data read, transactions not asked
        child   reaches  load: data read, transactions not asked   -- of its base's
        twin    reaches  load: joined or led
        twin    ends
        writer  ends
        child   ends
        base    ends
        late    ends
        """,
        base=lambda: Base(worker).text,
        child=lambda: Child(worker).text,
        twin=lambda: twin(worker).text,
        writer=lambda: _write_base(other),
        late=all_of_them,
    )
    assert played["base"] == "old"
    assert played["child"] == "child of old"
    assert played["twin"] == f"twin on {worker.database.kind}"
    assert played["late"] == ["new", "child of new", played["twin"]]


def _write_base(worker: Worker) -> None:
    with worker.cache_manager.begin() as connection:
        put(connection, "Front", "new")
        del Base(worker).text
