"""MariaDB: the lane, the rows and the COMMIT are one statement to the server."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from coherent_cache import TableError
from coherent_cache.ledger.mariadb import MariaDBLedger
from coherent_cache.writing import LedgerWriter
from tests.test_commit_message import STRANGE, change_many
from tests.workers import PageText, Worker, put, take_lane

pytestmark = pytest.mark.on("mariadb")


class Traffic:
    """What one worker sends to commit, on the one connection that its pool has."""

    def __init__(self, worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
        self.statements = 0
        self.commits = 0
        send = LedgerWriter._send
        driver = worker.engine.dialect.loaded_dbapi.Connection
        commit = driver.commit
        with worker.engine.connect() as connection:
            used = connection.connection.dbapi_connection

        def note(writer: LedgerWriter, connection: Any, statement: str, parameters: Any) -> None:
            self.statements += 1
            send(writer, connection, statement, parameters)

        def note_commit(connection: Any) -> None:
            self.commits += connection is used
            commit(connection)

        monkeypatch.setattr(LedgerWriter, "_send", note)
        monkeypatch.setattr(driver, "commit", note_commit)


@pytest.fixture
def traffic(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> Traffic:
    take_lane(worker)
    worker.write("Front", "first")
    return Traffic(worker, monkeypatch)


def change(worker: Worker, value: str, name: str = "Front") -> None:
    with worker.engine.begin() as connection:
        put(connection, name, value)
        del PageText(worker, name).text


def kept(worker: Worker, name: str = "Front") -> str | None:
    with worker.engine.connect() as connection:
        return connection.scalar(text("SELECT text FROM page WHERE name = :n"), {"n": name})


@pytest.mark.parametrize("name", STRANGE)
def test_one_statement(worker: Worker, other: Worker, traffic: Traffic, name: str) -> None:
    assert other.read(name) == ("first" if name == "Front" else None)
    change(worker, "second", name)
    assert (traffic.statements, traffic.commits) == (1, 0)
    assert other.read(name) == kept(other, name) == "second"
    with worker.engine.connect() as connection:
        lane, at, token = connection.execute(
            text("SELECT lane, position, token FROM cache ORDER BY generation DESC LIMIT 1")
        ).one()
        assert (at, token) == connection.execute(
            text("SELECT value, token FROM cache_lane WHERE lane = :lane"), {"lane": lane}
        ).one()


def test_the_connection_goes_on(worker: Worker, other: Worker, traffic: Traffic) -> None:
    with worker.engine.connect() as connection:
        for value in ("second", "third"):
            put(connection, "Front", value)
            del PageText(worker, "Front").text
            connection.commit()
            assert other.read("Front") == value
        put(connection, "Front", "never")
        del PageText(worker, "Front").text
        connection.rollback()
    assert worker.read("Front") == other.read("Front") == "third"
    assert (traffic.statements, traffic.commits) == (2, 0)


def test_a_lane_that_is_gone(worker: Worker, other: Worker, traffic: Traffic) -> None:
    """It commits nothing, and the rows go the long way."""
    assert other.read("Front") == "first"
    with worker.database.engine().begin() as connection:
        connection.execute(text("DELETE FROM cache_lane"))
    change(worker, "second")
    assert (traffic.statements, traffic.commits) == (1, 1)
    assert other.read("Front") == worker.read("Front") == "second"
    take_lane(worker)
    before = traffic.statements, traffic.commits
    change(worker, "third")
    assert (traffic.statements, traffic.commits) == (before[0] + 1, before[1])
    assert other.read("Front") == worker.read("Front") == "third"


def test_many_keys_go_before(worker: Worker, other: Worker, traffic: Traffic) -> None:
    names = change_many(worker, other)
    assert (traffic.statements, traffic.commits) == (0, 1)
    assert [other.read(name) for name in names] == ["new"] * 40


def test_a_row_that_fails_undoes_the_transaction(
    worker: Worker, other: Worker, traffic: Traffic
) -> None:
    assert other.read("Front") == "first"
    with worker.engine.connect() as connection:
        with worker.database.engine().begin() as operator:
            operator.execute(text("ALTER TABLE cache RENAME TO elsewhere"))
        with pytest.raises(TableError), connection.begin():
            put(connection, "Front", "never")
            del PageText(worker, "Front").text
        with worker.database.engine().begin() as operator:
            operator.execute(text("ALTER TABLE elsewhere RENAME TO cache"))
        assert kept(other) == "first"
        with connection.begin():  # and the connection goes on
            put(connection, "Front", "second")
            del PageText(worker, "Front").text
    assert other.read("Front") == worker.read("Front") == "second"
    assert traffic.commits == 0


@pytest.mark.parametrize("committed", [True, False])
def test_a_connection_that_is_lost_with_the_commit(
    worker: Worker, other: Worker, monkeypatch: pytest.MonkeyPatch, committed: bool
) -> None:
    """Whether the server has committed nobody knows: the request reads what is so."""
    take_lane(worker)
    worker.write("Front", "first")
    assert other.read("Front") == "first"
    send = LedgerWriter._send

    def lose(writer: LedgerWriter, connection: Any, statement: str, parameters: Any) -> None:
        if committed:
            send(writer, connection, statement, parameters)
        connection._force_close()
        raise worker.engine.dialect.loaded_dbapi.OperationalError(2013, "the connection is lost")

    with worker.cache_manager.request():
        assert PageText(worker, "Front").text == "first"
        with monkeypatch.context() as patched:
            patched.setattr(LedgerWriter, "_send", lose)
            with pytest.raises(DBAPIError) as caught:
                change(worker, "new")
        assert caught.value.connection_invalidated
        assert PageText(worker, "Front").text == ("new" if committed else "first")
    assert worker.read("Front") == other.read("Front") == kept(worker)


def test_not_where_the_driver_does_not_tell(
    worker: Worker, other: Worker, traffic: Traffic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On MySQL, and where nobody knows whether a transaction is open."""
    assert other.read("Front") == "first"
    with monkeypatch.context() as patched:
        patched.setattr(MariaDBLedger, "_in_one_statement", lambda _: False)
        change(worker, "second")
    assert (traffic.statements, traffic.commits) == (0, 1)
    assert other.read("Front") == "second"
    with monkeypatch.context() as patched:
        patched.setattr("coherent_cache.writing.in_transaction", lambda *_: None)
        change(worker, "third")
    assert (traffic.statements, traffic.commits) == (0, 2)
    assert other.read("Front") == "third"


def test_seen_in_the_log_it_goes_before(worker: Worker, other: Worker, traffic: Traffic) -> None:
    assert other.read("Front") == "first"
    worker.engine.echo = True
    change(worker, "second")
    assert (traffic.statements, traffic.commits) == (0, 1)
    assert other.read("Front") == "second"
