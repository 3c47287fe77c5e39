"""Hard cases 6 to 10 as exact schedules."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from ..hard_cases.support import LEVELS, at_level, ledger_rows
from ..workers import PageText, Worker, page, wait_for_older_transactions
from .acts import look
from .schedule import Schedule

# 6: the old snapshot


def in_a_transaction(
    worker: Worker, schedule: Schedule, *, looks_before: bool = False
) -> str | None:
    """A request that reads a page in a transaction, from its first statement on."""
    with worker.cache_manager.request(), worker.engine.connect() as connection:
        if looks_before:
            look(worker)
        if worker.database.is_sqlite:
            connection.execute(text("BEGIN"))
        connection.execute(page.select()).all()
        schedule.at("its snapshot is open")
        return PageText(worker, "Front").text


@pytest.mark.on("sqlite-wal", "postgresql", "mariadb")
@pytest.mark.parametrize(
    ("moment", "seen"),
    [
        ("snapshot: not labelled", "new"),
        ("snapshot: labelled, not opened", "new"),
        ("its snapshot is open", "old"),
        ("load: label taken, no data read", "old"),
        ("load: data read, transactions not asked", "old"),
    ],
)
def test_case_06_commit_at_each_moment_of_a_transaction(
    worker: Worker, other: Worker, schedule: Schedule, moment: str, seen: str
) -> None:
    """A transaction that keeps its snapshot; at one moment of it another process commits and the
    news are applied.  Whatever it reads, nobody after it reads old data."""
    other.write("Front", "old")
    if not worker.database.is_sqlite:
        worker = at_level(worker, "REPEATABLE READ")
    played = schedule(
        f"""
        reader   reaches  {moment}
        writer   ends
        checker  ends
        reader   ends
        late     ends
        """,
        reader=lambda: in_a_transaction(worker, schedule),
        writer=lambda: other.write("Front", "new"),
        checker=lambda: look(worker),
        late=lambda: worker.read("Front"),
    )
    assert (played["reader"], played["late"]) == (seen, "new")


@pytest.mark.on("sqlite-wal", "postgresql", "mariadb")
def test_case_06_published_from_an_old_snapshot_before_the_news(
    worker: Worker, other: Worker, schedule: Schedule
) -> None:
    """The value of the old snapshot comes before the news are applied, and goes with them."""
    other.write("Front", "old")
    if not worker.database.is_sqlite:
        worker = at_level(worker, "REPEATABLE READ")
    played = schedule(
        """
        reader   reaches  its snapshot is open
        writer   ends
        checker  reaches  check: news read, not applied
        reader   ends
        checker  ends
        late     ends
        """,
        reader=lambda: in_a_transaction(worker, schedule, looks_before=True),
        writer=lambda: other.write("Front", "new"),
        checker=lambda: look(worker),
        late=lambda: worker.read("Front"),
    )
    assert (played["reader"], played["late"]) == ("old", "new")


# 7: out of order


@pytest.mark.on("postgresql", "mariadb")
@pytest.mark.parametrize("level", LEVELS)
def test_case_07_out_of_order(
    worker: Worker, other: Worker, schedule: Schedule, level: str
) -> None:
    """Rows are written in one order and committed in the other, with a look after each step."""
    first, second = at_level(worker, level), at_level(worker, level)
    for name in "AB":
        worker.write(name, "old")
    assert other.read("A") == other.read("B") == "old"

    def both() -> tuple[str | None, str | None]:
        return other.read("A"), other.read("B")

    played = schedule(
        """
        first   reaches  commit: rows written, not committed
        second  reaches  commit: rows written, not committed
        none    ends
        second  ends
        one     ends
        again   ends
        first   ends
        two     ends
        """,
        first=lambda: first.write("A", "new"),
        second=lambda: second.write("B", "new"),
        none=both,
        one=both,
        again=both,
        two=both,
    )
    assert played["none"] == ("old", "old")
    assert played["one"] == played["again"] == ("old", "new")
    assert played["two"] == ("new", "new")


@pytest.mark.on("mariadb")
@pytest.mark.parametrize("who", ["same connection", "another"])
def test_case_07_commit_between_the_lanes_and_their_rows(
    worker: Worker, other: Worker, schedule: Schedule, who: str
) -> None:
    """What commits after the lanes were read is not half read: it is the next look's news."""
    second = worker if who == "same connection" else Worker(worker.database)
    for each, name in ((worker, "A"), (second, "B")):
        each.write(name, "old")
    assert other.read("A") == other.read("B") == "old"
    played = schedule(
        """
        first    ends
        checker  reaches  check: lanes read, rows not
        second   ends
        checker  ends
        late     ends
        """,
        # Twice: a single commit of a lane is read at once with it.
        first=lambda: [worker.write("A", text) for text in ("newer", "new")],
        checker=lambda: other.read("A"),
        second=lambda: second.write("B", "new"),
        late=lambda: other.read("B"),
    )
    assert (played["checker"], played["late"]) == ("new", "new")


@pytest.mark.on("postgresql")
def test_case_07_commit_between_the_first_horizon_and_its_rows(
    worker: Worker, other: Worker, schedule: Schedule
) -> None:
    """A process's first look takes three statements; what commits between them is not lost."""
    worker.write("Front", "old")
    played = schedule(
        """
        open   reaches  commit: rows written, not committed
        first  reaches  first look: horizon read, rows not
        quick  ends
        first  ends
        open   ends
        late   ends
        """,
        open=lambda: worker.write("Front", "new"),
        first=lambda: [other.read("Front"), other.read("Back")],
        quick=lambda: Worker(worker.database).write("Back", "new"),
        late=lambda: other.read("Front"),
    )
    assert played["first"] == ["old", "new"]
    assert played["late"] == "new"


# 8: the first invalidation, twice


def invalidate(worker: Worker, *keys: str) -> None:
    with worker.cache_manager.begin():
        for key in keys:
            worker.cache_manager.invalidate(key)


@pytest.mark.on("postgresql", "mariadb")
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.usefixtures("two_statements")
def test_case_08_both_have_written(worker: Worker, schedule: Schedule, level: str) -> None:
    """Both have their rows in the ledger before either commits; nobody waits and both count."""
    first, second = at_level(worker, level), at_level(worker, level)
    values = iter(["one", "two", "three"])

    def read() -> str:
        return worker.cache_manager.get("key", lambda: next(values))

    assert read() == "one"
    played = schedule(
        """
        first   reaches  commit: rows numbered, not inserted
        second  reaches  commit: rows written, not committed
        first   reaches  commit: rows written, not committed
        second  ends
        one     ends
        first   ends
        two     ends
        """,
        first=lambda: invalidate(first, "key"),
        second=lambda: invalidate(second, "key"),
        one=read,
        two=read,
    )
    assert (played["one"], played["two"]) == ("two", "three")
    assert ledger_rows(worker.database, "key") == [("key",), ("key",)]


@pytest.mark.on("sqlite-wal", "sqlite-journal")
def test_case_08_both_are_about_to_write(worker: Worker, other: Worker, schedule: Schedule) -> None:
    """SQLite: both are in their commit, and neither has written yet."""
    schedule(
        """
        first   reaches  commit: rows not written
        second  reaches  commit: rows not written
        second  ends
        first   ends
        """,
        first=lambda: invalidate(worker, "key"),
        second=lambda: invalidate(other, "key"),
    )
    assert ledger_rows(worker.database, "key") == [("key",), ("key",)]


# 9: opposite orders


@pytest.mark.on("postgresql", "mariadb")
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.usefixtures("two_statements")
def test_case_09_opposite_orders(
    worker: Worker, other: Worker, schedule: Schedule, level: str
) -> None:
    """Each has half of what it needs, if rows were what they need: nobody waits, nobody fails."""
    first, second = at_level(worker, level), at_level(worker, level)

    def write(own: Worker, name: str, keys: str) -> None:
        with own.cache_manager.begin() as connection:
            connection.execute(page.insert().values(name=name, text="new", version=0))
            for key in keys:
                del PageText(own, key).text
                schedule.at(f"it has invalidated {key}")

    assert other.read("A") is other.read("B") is None
    played = schedule(
        """
        first   reaches  it has invalidated A
        second  reaches  it has invalidated B
        first   reaches  commit: rows numbered, not inserted
        second  reaches  commit: rows numbered, not inserted
        first   reaches  commit: rows written, not committed
        second  ends
        one     ends
        first   ends
        two     ends
        """,
        first=lambda: write(first, "A", "AB"),
        second=lambda: write(second, "B", "BA"),
        one=lambda: [other.read("A"), other.read("B")],
        two=lambda: [other.read("A"), other.read("B")],
    )
    assert played["one"] == [None, "new"]
    assert played["two"] == ["new", "new"]


@pytest.mark.on("mariadb")
def test_case_09_two_connections_see_one_free_lane(worker: Worker, schedule: Schedule) -> None:
    """Two connections are made at once and see the same lane free.  Only one gets it: in each
    other's lane they would wait for each other's COMMIT."""
    worker.write("A", "old")
    worker.cache_manager.close()
    worker.engine.dispose()  # its lane is free again
    first, second = at_level(worker, None), at_level(worker, None)
    schedule(
        """
        first   reaches  lane: seen free, not claimed
        second  reaches  commit: rows written, not committed
        first   ends
        second  ends
        """,
        first=lambda: first.write("A", "new"),
        second=lambda: second.write("B", "new"),
    )
    assert worker.read("A") == worker.read("B") == "new"


# 10: pruned and born again


def write_much(worker: Worker) -> None:
    for number in range(4):
        worker.write("Elsewhere", str(number))


def test_case_10_pruned_while_others_write_and_look(
    worker: Worker, other: Worker, schedule: Schedule
) -> None:
    """The pruner has chosen rows, and the world moves on before they go."""
    idle = Worker(worker.database)
    worker.write("Front", "old")
    assert other.read("Front") == idle.read("Front") == "old"
    worker.write("Front", "new")
    write_much(worker)
    played = schedule(
        """
        pruner   reaches  prune: rows chosen, none deleted
        checker  ends
        writer   ends
        pruner   ends
        late     ends
        idle     ends
        """,
        pruner=lambda: worker.cache_manager.prune(keep=1),
        checker=lambda: other.read("Front"),
        writer=lambda: worker.write("Front", "newest"),
        late=lambda: other.read("Front"),
        idle=lambda: idle.read("Front"),
    )
    assert played["checker"] == "new"
    assert played["late"] == played["idle"] == "newest"


@pytest.mark.on("mariadb")
def test_case_10_pruned_between_the_lanes_and_their_rows(
    worker: Worker, other: Worker, schedule: Schedule
) -> None:
    """A look has read that a lane moved; when it reads the lane's rows the first are gone."""
    worker.write("Front", "old")
    assert other.read("Front") == "old"
    worker.write("Front", "new")
    write_much(worker)
    played = schedule(
        """
        idle    reaches  check: lanes read, rows not
        pruner  ends
        idle    ends
        """,
        idle=lambda: other.read("Front"),
        pruner=lambda: worker.cache_manager.prune(keep=1),
    )
    assert played["idle"] == "new"


def test_case_10_written_and_pruned_after_connecting(
    worker: Worker, other: Worker, schedule: Schedule
) -> None:
    """A process's first look has its connection, and has read nothing, when the key's row comes and
    goes."""
    worker.write("Front", "old")
    write_much(worker)
    played = schedule(
        """
        first   reaches  check: connected, nothing read
        writer  ends
        pruner  ends
        first   ends
        second  ends
        late    ends
        """,
        first=lambda: other.read("Front"),
        writer=lambda: worker.write("Front", "new"),
        pruner=lambda: [write_much(worker), worker.cache_manager.prune(keep=1)],
        second=lambda: worker.write("Front", "newest"),
        late=lambda: other.read("Front"),
    )
    assert (played["first"], played["late"]) == ("new", "newest")


@pytest.mark.on("postgresql")
def test_case_10_pruned_beside_a_transaction_with_a_low_number(
    worker: Worker, other: Worker, schedule: Schedule
) -> None:
    """Rows that were written before the pruned ones and are committed after the prune."""
    worker.write("Front", "old")
    assert other.read("Front") == "old"
    wait_for_older_transactions(worker)
    played = schedule(
        """
        writer  reaches  commit: rows written, not committed
        pruner  reaches  prune: rows chosen, none deleted
        second  ends
        pruner  ends
        first   ends
        writer  ends
        late    ends
        """,
        writer=lambda: worker.write("Front", "new"),
        pruner=lambda: [write_much(other), other.cache_manager.prune(keep=1)],
        second=lambda: other.read("Front"),
        first=lambda: other.read("Front"),
        late=lambda: other.read("Front"),
    )
    assert (played["second"], played["first"], played["late"]) == ("old", "old", "new")
