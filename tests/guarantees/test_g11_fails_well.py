"""G11: the error that the driver gave, and afterwards right answers again with no restart."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, OperationalError

from coherent_cache import TableError

from ..workers import PageText, Worker, put


def test_g11_a_retriever_that_raises(worker: Worker) -> None:
    """The exception, nothing cached, and the transaction as it was."""

    def fail() -> None:
        raise KeyError("not today")

    worker.wiki.before = fail
    with worker.cache_manager.request(), worker.cache_manager.begin() as connection:
        put(connection, "Front", "mine")
        with pytest.raises(KeyError, match="not today"):
            worker.wiki.names  # noqa: B018
        put(connection, "Back", "mine")
        del worker.wiki.names
    worker.wiki.before = lambda: None
    assert worker.wiki.names == {"Front", "Back"}
    assert worker.cache_manager.statistics.entries == 1


def test_g11_a_check_that_fails(worker: Worker, other: Worker) -> None:
    """No old value is handed out instead, neither then nor after."""
    worker.write("Front", "old")
    assert other.read("Front") == "old"
    ledger: Any = other.cache_manager.core.ledger
    read = ledger.read

    def fail(execute: Any, position: Any) -> Any:
        raise OperationalError("SELECT", None, Exception("the disk is gone"))

    ledger.read = fail
    worker.write("Front", "new")
    with other.cache_manager.request():
        for _ in range(2):
            with pytest.raises(OperationalError, match="the disk is gone"):
                PageText(other, "Front").text  # noqa: B018
        ledger.read = read
        assert PageText(other, "Front").text == "new"


@pytest.mark.on("postgresql", "mariadb")
def test_g11_connections_that_the_server_ends(worker: Worker, other: Worker) -> None:
    """A check on a connection that was ended opens another; what was missed meanwhile shows."""
    worker.write("Front", "old")
    assert other.read("Front") == "old"
    other.engine.dispose()
    worker.write("Front", "new")
    _end_connections_of_others(worker)
    assert other.read("Front") == "new"
    assert worker.read("Front") == "new"


def _end_connections_of_others(worker: Worker) -> None:
    """End all connections to the database but one; the pool's other ones are closed."""
    worker.engine.dispose()
    with worker.engine.connect() as connection:
        if worker.database.kind == "postgresql":
            connection.execute(
                text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            )
            return
        query = text(
            "SELECT id FROM information_schema.processlist "
            "WHERE db = DATABASE() AND id <> CONNECTION_ID()"
        )
        for number in connection.scalars(query).all():
            connection.execute(text(f"KILL {int(number)}"))


@pytest.mark.on("postgresql", "mariadb")
def test_g11_a_transaction_that_the_server_ends(worker: Worker, other: Worker) -> None:
    """The driver's error at the commit; the data is not there and nothing was invalidated."""
    worker.write("Front", "old")
    assert other.read("Front") == "old"
    with worker.cache_manager.request():
        with pytest.raises(DBAPIError):
            _write_in_a_connection_that_is_ended(worker, other)
        assert PageText(worker, "Front").text == "old"
    assert other.read("Front") == worker.read("Front") == "old"
    worker.write("Front", "new")
    assert other.read("Front") == worker.read("Front") == "new"


def _write_in_a_connection_that_is_ended(worker: Worker, other: Worker) -> None:
    with worker.cache_manager.begin() as connection:
        put(connection, "Front", "lost")
        del PageText(worker, "Front").text
        assert PageText(worker, "Front").text == "lost"
        _end_connections_of_others(other)


def test_g11_the_table_is_missing(worker: Worker) -> None:
    """What to do is said; and once it is done all is well."""
    worker.cache_manager.metadata.drop_all(worker.engine)
    fresh = Worker(worker.database)
    with pytest.raises(TableError, match="create_table"):
        fresh.wiki.names  # noqa: B018
    with pytest.raises(TableError, match="create_table"):
        fresh.write("Front", "x")
    fresh.cache_manager.create_table()
    assert fresh.wiki.names == frozenset()
    fresh.write("Front", "x")
    assert fresh.wiki.names == {"Front"}
    assert fresh.read("Front") == "x"
