"""Hard cases 1 to 5 as exact schedules."""

from __future__ import annotations

import contextvars
from typing import Any

import pytest
from sqlalchemy import select

from coherent_cache import cached

from ..hard_cases.support import ledger_rows
from ..workers import PageText, Worker, page, put
from .acts import look
from .schedule import Schedule


class UndoError(Exception):
    pass


def undone(worker: Worker, schedule: Schedule, *, invalidates: bool) -> list[Any]:
    """A request that writes, reads and rolls back; what it has read, also afterwards."""
    seen: list[Any] = []
    with worker.cache_manager.request():
        with pytest.raises(UndoError), worker.cache_manager.begin() as connection:
            put(connection, "Front", "never")
            if invalidates:
                del PageText(worker, "Front").text
            seen.append(PageText(worker, "Front").text)
            raise UndoError
        seen.append(PageText(worker, "Front").text)
    return seen


def test_case_01_rolled_back_while_another_process_commits(
    worker: Worker, other: Worker, schedule: Schedule
) -> None:
    """The moment at which the database has forgotten the transaction and the library has not."""
    worker.write("Front", "first")
    played = schedule(
        """
        undoer  reaches  load: value made, not published
        reader  ends
        undoer  reaches  end: returned, views not told
        writer  ends
        late    ends
        undoer  ends
        """,
        undoer=lambda: undone(worker, schedule, invalidates=True),
        reader=lambda: worker.read("Front"),
        writer=lambda: other.write("Front", "theirs"),
        late=lambda: worker.read("Front"),
    )
    assert played["reader"] == "first"
    assert played["late"] == "theirs"
    assert played["undoer"] == ["never", "theirs"]
    assert worker.read("Front") == other.read("Front") == "theirs"


def test_case_02_read_before_the_del(worker: Worker, schedule: Schedule) -> None:
    """Others read at the moment at which the value could be published, and after the rollback."""
    worker.write("Front", "old")
    worker.cache_manager.evict()
    played = schedule(
        """
        undoer  reaches  load: data read, transactions not asked
        reader  ends
        undoer  reaches  load: published, not kept      -- which is refused
        second  ends
        undoer  reaches  end: returned, views not told
        late    ends
        undoer  ends
        """,
        undoer=lambda: undone(worker, schedule, invalidates=False),
        reader=lambda: worker.read("Front"),
        second=lambda: worker.read("Front"),
        late=lambda: worker.read("Front"),
    )
    assert played["undoer"] == ["never", "old"]
    assert played["reader"] == played["second"] == played["late"] == "old"
    assert worker.read("Front") == "old"


def test_case_03_reloaded_between_del_and_commit(
    worker: Worker, other: Worker, schedule: Schedule
) -> None:
    """The reload has read the old data when the ledger's rows are written, and is published when
    the COMMIT has returned and nobody knows yet."""
    worker.write("Front", "old")

    def request() -> str | None:
        with worker.cache_manager.request():
            with worker.cache_manager.begin() as connection:
                put(connection, "Front", "new")
                del PageText(worker, "Front").text
            return PageText(worker, "Front").text

    played = schedule(
        """
        writer  reaches  commit: rows written, not committed
        reader  reaches  load: data read, transactions not asked
        writer  reaches  end: returned, views not told
        reader  ends
        writer  ends
        """,
        writer=request,
        reader=lambda: worker.read("Front"),
    )
    assert played == {"writer": "new", "reader": "old"}
    assert worker.read("Front") == other.read("Front") == "new"


def test_case_03_kept_after_the_del(worker: Worker, schedule: Schedule) -> None:
    """Two threads of one request: what one has loaded may not be kept after the other's del."""
    worker.write("Front", "old")
    with worker.cache_manager.request():
        contexts = [contextvars.copy_context() for _ in range(2)]
        played = schedule(
            """
            reader   reaches  view: value found, not kept
            writer   ends
            reader   ends
            """,
            reader=lambda: contexts[0].run(lambda: PageText(worker, "Front").text),
            writer=lambda: contexts[1].run(worker.write, "Front", "new"),
        )
        assert played["reader"] == "old"
        assert PageText(worker, "Front").text == "new"


def test_case_03_taken_over_after_the_del(worker: Worker, schedule: Schedule) -> None:
    """The same with a value that the process knows, in a request that has looked at the ledger."""
    worker.write("Front", "old")
    assert worker.read("Front") == "old"
    with worker.cache_manager.request():
        assert worker.wiki.names == {"Front"}
        contexts = [contextvars.copy_context() for _ in range(2)]
        played = schedule(
            """
            reader   reaches  view: value found, not kept
            writer   ends
            reader   ends
            """,
            reader=lambda: contexts[0].run(lambda: PageText(worker, "Front").text),
            writer=lambda: contexts[1].run(worker.write, "Front", "new"),
        )
        assert played["reader"] == "old"
        assert PageText(worker, "Front").text == "new"


def test_case_03_memorised_after_the_del(worker: Worker, schedule: Schedule) -> None:
    """The same one step later: the value is in the view, and not yet where the next read looks
    first."""
    worker.write("Front", "old")
    with worker.cache_manager.request():
        shown = PageText(worker, "Front")
        assert shown.text == "old"  # the view has it; the memo is asked from now on
        contexts = [contextvars.copy_context() for _ in range(2)]
        played = schedule(
            """
            reader  reaches  view: value kept, not in the memo
            writer  ends
            reader  ends
            """,
            reader=lambda: contexts[0].run(lambda: shown.text),
            writer=lambda: contexts[1].run(worker.write, "Front", "new"),
        )
        assert played["reader"] == "old"
        assert shown.text == "new"


def test_case_03_taken_from_another_request_after_the_del(
    worker: Worker, schedule: Schedule
) -> None:
    """A request has invalidated what a value depends on, and takes that value from another request
    that is just loading it; then it writes.  (Both hold a connection, or it would not wait.)"""

    class Total:
        env = worker

        @cached
        def value(self) -> str | None:
            return PageText(worker, "Front").text

    worker.write("Front", "old")
    worker.write("Other", "old")
    worker.read("Front")

    def load() -> str | None:
        with worker.cache_manager.request(), worker.engine.begin() as connection:
            connection.execute(select(page.c.name)).all()
            return Total().value

    def request() -> list[str | None]:
        with worker.cache_manager.request(), worker.engine.begin() as connection:
            connection.execute(select(page.c.name)).all()
            del PageText(worker, "Front").text
            seen = [Total().value]
            put(connection, "Front", "mine")
            return [*seen, Total().value, PageText(worker, "Front").text]

    played = schedule(
        """
        loader  reaches  load: data read, transactions not asked
        writer  reaches  load: joined or led
        loader  ends
        writer  ends
        """,
        loader=load,
        writer=request,
    )
    assert played == {"loader": "old", "writer": ["old", "mine", "mine"]}


def test_case_04_del_in_a_savepoint(worker: Worker, other: Worker, schedule: Schedule) -> None:
    """Others read at the moment of the del in a savepoint that will roll back, of its own read, and
    when the outer transaction has written its rows."""
    worker.write("Front", "old")
    worker.write("Back", "old")
    rows = len(ledger_rows(worker.database))

    def request() -> list[str | None]:
        seen = []
        with worker.cache_manager.request(), worker.cache_manager.begin() as connection:
            savepoint = connection.begin_nested()
            put(connection, "Front", "never")
            del PageText(worker, "Front").text
            seen.append(PageText(worker, "Front").text)
            savepoint.rollback()
            seen.append(PageText(worker, "Front").text)
            put(connection, "Back", "new")
            del PageText(worker, "Back").text
        return seen

    played = schedule(
        """
        writer  reaches  del: pending, view not told
        first   ends
        writer  reaches  load: published, not kept      -- in the savepoint
        second  ends
        writer  reaches  view: value found, not kept    -- after its rollback
        third   ends
        writer  reaches  commit: rows written, not committed
        fourth  ends
        writer  ends
        """,
        writer=request,
        first=lambda: worker.read("Front"),
        second=lambda: worker.read("Front"),
        third=lambda: worker.read("Front"),
        fourth=lambda: [worker.read("Front"), worker.read("Back")],
    )
    assert played["writer"] == ["never", "old"]
    assert played["first"] == played["second"] == played["third"] == "old"
    assert played["fourth"] == ["old", "old"]
    assert len(ledger_rows(worker.database)) == rows + 1
    assert worker.read("Back") == other.read("Back") == "new"


MOMENTS_OF_A_LOAD = {
    "load: to be done, label not taken": "new",
    "load: label taken, no data read": "new",
    "load: data read, transactions not asked": "old",
    "load: value made, not published": "old",
    "load: published, not kept": "old",
}


@pytest.mark.parametrize("moment", MOMENTS_OF_A_LOAD)
def test_case_05_commit_at_each_moment_of_a_load(
    worker: Worker, other: Worker, schedule: Schedule, moment: str
) -> None:
    """Whenever another process commits and its news are applied: the load's own request may have
    either value, and nobody after it the old one."""
    other.write("Front", "old")
    played = schedule(
        f"""
        loader   reaches  {moment}
        writer   ends
        checker  ends
        loader   ends
        late     ends
        """,
        loader=lambda: worker.read("Front"),
        writer=lambda: other.write("Front", "new"),
        checker=lambda: look(worker),
        late=lambda: worker.read("Front"),
    )
    assert played["loader"] == MOMENTS_OF_A_LOAD[moment]
    assert played["late"] == "new"


def test_case_05_published_before_the_news_are_applied(
    worker: Worker, other: Worker, schedule: Schedule
) -> None:
    """The news are read, the old value is published, and only then the news are applied."""
    other.write("Front", "old")
    played = schedule(
        """
        loader   reaches  load: data read, transactions not asked
        writer   ends
        checker  reaches  check: news read, not applied
        loader   ends
        checker  ends
        late     ends
        """,
        loader=lambda: worker.read("Front"),
        writer=lambda: other.write("Front", "new"),
        checker=lambda: look(worker),
        late=lambda: worker.read("Front"),
    )
    assert (played["loader"], played["late"]) == ("old", "new")


def test_case_05_labelled_before_the_position_moves(
    worker: Worker, other: Worker, schedule: Schedule
) -> None:
    """The news are applied, a load takes its label, a second commit comes; then the position moves:
    the second commit's news are the next look's."""
    other.write("Front", "old")

    def request() -> str | None:
        with worker.cache_manager.request():
            worker.cache_manager.get("looked at the ledger", lambda: None)
            schedule.at("it has looked")
            return PageText(worker, "Front").text

    played = schedule(
        """
        loader   reaches  it has looked
        writer   ends
        checker  reaches  check: news applied, position not moved
        loader   reaches  load: data read, transactions not asked
        second   ends
        loader   ends
        checker  ends
        late     ends
        """,
        loader=request,
        writer=lambda: other.write("Front", "new"),
        checker=lambda: look(worker),
        second=lambda: other.write("Front", "newer"),
        late=lambda: worker.read("Front"),
    )
    assert (played["loader"], played["late"]) == ("new", "newer")
