"""Hard cases 16 to 20 as exact schedules."""

from __future__ import annotations

import contextvars
from typing import Any

import pytest
from sqlalchemy import text

from ..hard_cases.support import at_level
from ..workers import PageText, Worker, page, put
from .acts import look
from .schedule import Schedule

# 16: nested, and one load for many


@pytest.mark.on("sqlite-wal", "postgresql", "mariadb")
def test_case_16_opposite_orders(worker: Worker, schedule: Schedule) -> None:
    """A reads B while B reads A, in two threads: one waits for the other, who does not wait."""
    manager = worker.cache_manager

    def load(first: str, second: str) -> str:
        return manager.get(first, lambda: first + manager.get(second, lambda: second))

    played = schedule(
        """
        one  reaches  load: label taken, no data read   -- of A
        two  reaches  load: label taken, no data read   -- of B
        one  reaches  load: joined or led               -- it joins B's
        one  goes on                                    -- and waits
        two  reaches  load: another is under way, not joined
        two  ends
        one  ends
        """,
        one=lambda: load("A", "B"),
        two=lambda: load("B", "A"),
    )
    assert played["two"] == "BA"  # it computed A itself
    assert played["one"] == "ABA"  # B as the other one computed it


@pytest.mark.on("sqlite-wal", "postgresql", "mariadb")
def test_case_16_commit_while_somebody_waits_for_a_load(
    worker: Worker, other: Worker, schedule: Schedule
) -> None:
    """One loads, one waits for it; a commit comes, its news are applied, and then the load ends.
    Both began before the commit.  Who begins after it neither joins nor gets the old value."""
    other.write("Front", "old")
    played = schedule(
        """
        leader   reaches  load: data read, transactions not asked
        waiter   reaches  load: joined or led
        waiter   goes on
        writer   ends
        checker  ends
        late     ends
        leader   reaches  load: over, others wait for it
        later    ends
        leader   ends
        waiter   ends
        last     ends
        """,
        leader=lambda: worker.read("Front"),
        waiter=lambda: worker.read("Front"),
        writer=lambda: other.write("Front", "new"),
        checker=lambda: look(worker),
        late=lambda: worker.read("Front"),
        later=lambda: worker.read("Front"),
        last=lambda: worker.read("Front"),
    )
    assert played["leader"] == played["waiter"] == "old"
    assert played["late"] == played["later"] == played["last"] == "new"


@pytest.mark.on("sqlite-wal", "postgresql", "mariadb")
def test_case_16_a_waiter_that_is_slow_to_take_the_value(
    worker: Worker, other: Worker, schedule: Schedule
) -> None:
    """The wait is over, and before the waiter takes the value a commit makes it old: for its own
    request it is right, and it does not go to anybody else."""
    other.write("Front", "old")
    played = schedule(
        """
        leader   reaches  load: data read, transactions not asked
        waiter   reaches  load: joined or led
        waiter   goes on
        leader   ends
        waiter   ends
        late     ends
        """,
        leader=lambda: worker.read("Front"),
        waiter=lambda: worker.read("Front"),
        late=lambda: worker.read("Front"),
    )
    assert set(played.values()) == {"old"}
    del PageText(other, "Front").text
    played = schedule(
        """
        leader   reaches  load: label taken, no data read
        waiter   reaches  load: joined or led
        leader   ends
        waiter   reaches  load: wait over, value not taken
        writer   ends
        checker  ends
        waiter   ends
        late     ends
        """,
        leader=lambda: worker.read("Front"),
        waiter=lambda: worker.read("Front"),
        writer=lambda: other.write("Front", "new"),
        checker=lambda: look(worker),
        late=lambda: worker.read("Front"),
    )
    assert (played["leader"], played["waiter"], played["late"]) == ("old", "old", "new")


@pytest.mark.on("sqlite-wal", "postgresql", "mariadb")
def test_case_16_a_waiter_with_a_newer_view(
    worker: Worker, other: Worker, schedule: Schedule
) -> None:
    """The load that is joined began after the commit, but turns out to read in a transaction from
    before it: what it brings is too old for the one who waits."""
    other.write("Front", "old")
    if not worker.database.is_sqlite:
        worker = at_level(worker, "REPEATABLE READ")

    def in_an_old_transaction() -> str | None:
        with worker.cache_manager.request(), worker.engine.connect() as connection:
            if worker.database.is_sqlite:
                connection.execute(text("BEGIN"))
            connection.execute(page.select()).all()
            schedule.at("its snapshot is open")
            return PageText(worker, "Front").text

    played = schedule(
        """
        leader   reaches  its snapshot is open
        writer   ends
        checker  ends
        leader   reaches  load: label taken, no data read
        waiter   reaches  load: joined or led
        waiter   goes on
        leader   ends
        waiter   ends
        """,
        leader=in_an_old_transaction,
        writer=lambda: other.write("Front", "new"),
        checker=lambda: look(worker),
        waiter=lambda: worker.read("Front"),
    )
    assert (played["leader"], played["waiter"]) == ("old", "new")


@pytest.mark.on("sqlite-wal", "postgresql", "mariadb")
def test_case_16_an_older_view_joins_a_newer_load(
    worker: Worker, other: Worker, schedule: Schedule
) -> None:
    """A request looked before a commit, and misses a key that somebody loads since then: the value
    is newer than it needs, and one retriever call is enough."""
    other.write("Front", "old")

    def request() -> frozenset[str]:
        with worker.cache_manager.request():
            look(worker)
            schedule.at("it has looked")
            return worker.wiki.names

    played = schedule(
        """
        older   reaches  it has looked
        writer  ends
        leader  reaches  load: label taken, no data read
        older   reaches  load: joined or led
        older   goes on
        leader  ends
        older   ends
        """,
        older=request,
        writer=lambda: other.write("Back", "new"),
        leader=lambda: worker.wiki.names,
    )
    assert played["older"] is played["leader"]
    assert played["leader"] == {"Front", "Back"}
    assert worker.wiki.calls == 1


@pytest.mark.on("sqlite-wal", "postgresql", "mariadb")
def test_case_16_inner_value_is_invalidated_while_the_outer_is_computed(
    worker: Worker, other: Worker, schedule: Schedule
) -> None:
    """Only the inner key is invalidated, when its value is already part of the outer one."""
    other.write("Front", "old")

    def outer() -> str:
        return worker.cache_manager.get("outer", lambda: f"[{PageText(worker, 'Front').text}]")

    played = schedule(
        """
        loader   reaches  load: data read, transactions not asked  -- the inner one's
        loader   reaches  load: data read, transactions not asked  -- the outer one's
        writer   ends
        checker  ends
        loader   ends
        late     ends
        """,
        loader=outer,
        writer=lambda: other.write("Front", "new"),
        checker=lambda: look(worker),
        late=outer,
    )
    assert (played["loader"], played["late"]) == ("[old]", "[new]")


# 17: keys with anything in them


@pytest.mark.on("sqlite-wal", "postgresql", "mariadb")
def test_case_17_keys_that_look_alike_at_once(
    worker: Worker, other: Worker, schedule: Schedule
) -> None:
    """A number and its digits are loaded at the same time, and the text is invalidated: nobody
    joins the other one's load, and the number's value stays."""
    names: list[Any] = [1, "1"]

    def read(name: Any, value: str) -> str:
        return worker.cache_manager.get(f"Article.price[{name!r}]", lambda: value)

    look(worker)
    other.cache_manager.invalidate("anything")  # so that the next news are no first rows
    look(worker)
    played = schedule(
        """
        number   reaches  load: data read, transactions not asked
        text     reaches  load: data read, transactions not asked
        writer   ends
        checker  ends
        number   ends
        text     ends
        late     ends
        """,
        number=lambda: read(names[0], "the number's"),
        text=lambda: read(names[1], "the text's"),
        writer=lambda: other.cache_manager.invalidate("Article.price['1']"),
        checker=lambda: look(worker),
        late=lambda: [read(names[0], "anew"), read(names[1], "anew")],
    )
    assert (played["number"], played["text"]) == ("the number's", "the text's")
    assert played["late"][1] == "anew"
    if worker.database.kind != "postgresql":  # there somebody's open transaction drops everything
        assert played["late"][0] == "the number's"


# 18: locking reads


@pytest.mark.on("mariadb")
@pytest.mark.parametrize("lock", ["FOR UPDATE", "LOCK IN SHARE MODE"])
def test_case_18_commit_between_a_plain_and_a_locking_read(
    worker: Worker, other: Worker, schedule: Schedule, lock: str
) -> None:
    """One value from two reads, the second of which sees newer rows: it is published under neither
    label, before the news are applied nor after."""
    other.write("A", "old")
    other.write("B", "old")

    def mixed() -> tuple[Any, Any]:
        with worker.cache_manager.connect() as connection:
            plain = connection.exec_driver_sql("SELECT text FROM page WHERE name = 'A'").scalar()
            schedule.at("it has read without a lock")
            statement = f"SELECT text FROM page WHERE name = 'B' {lock}"
            return plain, connection.exec_driver_sql(statement).scalar()

    def change() -> None:
        with other.cache_manager.begin() as connection:
            connection.execute(page.update().values(text="new"))
            other.cache_manager.invalidate("mixed")

    def read() -> Any:
        return worker.cache_manager.get("mixed", mixed)

    played = schedule(
        """
        loader   reaches  it has read without a lock
        writer   ends
        loader   reaches  load: value made, not published
        early    ends
        checker  ends
        loader   ends
        late     ends
        """,
        loader=read,
        writer=change,
        early=read,
        checker=lambda: look(worker),
        late=read,
    )
    assert played["loader"] == ("old", "new")
    assert played["early"] == played["late"] == ("new", "new")


# 19: autocommit


@pytest.mark.on("postgresql", "mariadb", "sqlite-wal")
@pytest.mark.usefixtures("two_statements")
def test_case_19_the_del_commits_by_itself(
    worker: Worker, other: Worker, schedule: Schedule
) -> None:
    """In autocommit mode the data are there before the del is: who reads in between may get either,
    who reads when the del has committed gets the new value, also before its own view is told."""
    worker.write("Front", "old")
    assert worker.read("Front") == other.read("Front") == "old"

    def request() -> str | None:
        engine = worker.engine.execution_options(isolation_level="AUTOCOMMIT")
        with worker.cache_manager.request(), engine.connect() as connection:
            assert PageText(worker, "Front").text == "old"
            put(connection, "Front", "new")
            del PageText(worker, "Front").text
            return PageText(worker, "Front").text

    played = schedule(
        """
        writer   reaches  commit: rows numbered, not inserted
        between  ends
        writer   reaches  lone invalidation: committed, views not told
        reader   ends
        there    ends
        writer   ends
        """,
        writer=request,
        between=lambda: other.read("Front"),
        reader=lambda: worker.read("Front"),
        there=lambda: other.read("Front"),
    )
    assert played["between"] in ("old", "new")
    assert played["reader"] == played["there"] == played["writer"] == "new"


# 20: the same commit seen twice


def commit_around(
    worker: Worker, other: Worker, schedule: Schedule, moment: str
) -> list[str | None]:
    """Another process commits, and another thread looks, at *moment* of a request's own commit;
    what the request reads after it."""
    for name in ("Front", "Back"):
        worker.write(name, "old")
        assert worker.read(name) == "old"

    def request() -> list[str | None]:
        with worker.cache_manager.request():
            assert PageText(worker, "Front").text == "old"
            with worker.cache_manager.begin() as connection:
                put(connection, "Front", "new")
                del PageText(worker, "Front").text
            return [PageText(worker, "Front").text, PageText(worker, "Back").text]

    played = schedule(
        f"""
        writer   reaches  {moment}
        another  ends
        checker  ends
        writer   ends
        """,
        writer=request,
        another=lambda: other.write("Back", "new"),
        checker=lambda: look(worker),
    )
    assert worker.read("Front") == worker.read("Back") == "new"
    seen: list[str | None] = played["writer"]
    return seen


@pytest.mark.parametrize("moment", ["end: returned, views not told", "end: views told"])
def test_case_20_others_commit_after_the_own_commit(
    worker: Worker, other: Worker, schedule: Schedule, moment: str
) -> None:
    assert commit_around(worker, other, schedule, moment) == ["new", "new"]


@pytest.mark.on("postgresql", "mariadb")  # (SQLite has one lock for writing)
@pytest.mark.parametrize(
    "moment", ["commit: rows not written", "commit: rows written, not committed"]
)
def test_case_20_others_commit_before_the_own_commit(
    worker: Worker, other: Worker, schedule: Schedule, moment: str
) -> None:
    assert commit_around(worker, other, schedule, moment) == ["new", "new"]


@pytest.mark.on("sqlite-wal", "postgresql", "mariadb")
def test_case_20_two_threads_look_at_once(
    worker: Worker, other: Worker, schedule: Schedule
) -> None:
    """Two threads of a request.  One is about to look: that is no look yet, for the other one."""
    worker.write("Front", "old")
    assert worker.read("Front") == "old"
    other.write("Front", "new")
    with worker.cache_manager.request():
        contexts = [contextvars.copy_context() for _ in range(2)]
        played = schedule(
            """
            one  reaches  look: about to begin
            two  ends
            one  ends
            """,
            one=lambda: contexts[0].run(lambda: PageText(worker, "Front").text),
            two=lambda: contexts[1].run(lambda: PageText(worker, "Front").text),
        )
    assert played == {"one": "new", "two": "new"}
