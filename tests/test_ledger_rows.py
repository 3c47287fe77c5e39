"""The rows that one commit writes, by each way there is to write them."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import text

from coherent_cache.keys import key_hash, to_stored
from coherent_cache.ledger.mariadb import MariaDBLedger

from .workers import PageText, Worker, put

#: Some are text that means something to a driver.
AWKWARD = ("it's", 'say "so"', "50 %s", "why? :1 $1", "back\\slash", "\x00", "snö")


@pytest.fixture
def as_on_mysql(monkeypatch: pytest.MonkeyPatch) -> None:
    """On MariaDB few rows are written in one statement with the lane's, on MySQL after it."""
    monkeypatch.setattr(MariaDBLedger, "_in_one_statement", lambda self: False)


@pytest.mark.parametrize("number", [1, 16, 17, 1_001])
def test_rows_of_one_commit(worker: Worker, number: int) -> None:
    """A row for each key, with the key's own hash, and all under one number and token."""
    keys = [*AWKWARD, *(f"key {n}" for n in range(number))][:number]
    other = Worker(worker.database)
    for each in (worker, other, worker):  # a connection has a lane from its first commit on
        with each.cache_manager.begin():
            each.cache_manager.invalidate("before")
    with worker.cache_manager.begin():
        for key in keys:
            worker.cache_manager.invalidate(key)
    key_column = "`key`" if worker.database.kind == "mariadb" else '"key"'
    with worker.cache_manager.connect() as connection:
        rows = connection.execute(
            text(
                f"SELECT {key_column}, key_hash, lane, position, token FROM cache "
                f"ORDER BY generation DESC LIMIT {number}"
            )
        ).all()
        lanes = connection.execute(text("SELECT lane, value, token FROM cache_lane")).all()
    stored = [to_stored(key) for key in keys]
    assert sorted(row[:2] for row in rows) == sorted((each, key_hash(each)) for each in stored)
    ((lane, position, token),) = {tuple(row[2:]) for row in rows}
    if worker.database.kind == "mariadb":
        assert (lane, position, token) in [tuple(row) for row in lanes]


@pytest.mark.on("mariadb")
@pytest.mark.usefixtures("as_on_mysql")
@pytest.mark.parametrize("number", [1, 17, 1_001])
def test_rows_of_one_commit_in_two_statements(worker: Worker, number: int) -> None:
    """The same with a statement for the lane."""
    test_rows_of_one_commit(worker, number)


@pytest.mark.on("mariadb")
def test_lane_that_vanished(worker: Worker, other: Worker) -> None:
    """The tables were made anew under a living connection: its lane is not there any more."""
    for _ in range(2):  # a connection has a lane from its first commit on
        worker.write("Front", "old")
    assert other.read("Front") == "old"
    with worker.engine.begin() as connection:
        connection.execute(text("DELETE FROM cache_lane"))
    with worker.cache_manager.begin() as connection:
        put(connection, "Front", "new")
        del PageText(worker, "Front").text
    with worker.cache_manager.connect() as connection:
        rows = connection.execute(
            text("SELECT l.value FROM cache c JOIN cache_lane l USING (lane, token)")
        ).all()
    assert rows == [(1,)]
    assert other.read("Front") == "new"


@pytest.mark.on("mariadb")
@pytest.mark.usefixtures("as_on_mysql")
def test_lane_that_vanished_in_two_statements(worker: Worker, other: Worker) -> None:
    """The same with a statement for the lane."""
    test_lane_that_vanished(worker, other)


def _statements(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What *worker* asks the ledger from now on."""
    asked: list[str] = []
    side = worker.cache_manager.core.access._connections.reader._side
    run = side.run

    def note(statement: str, parameters: Any) -> Any:
        asked.append(statement.split()[0])
        return run(statement, parameters)

    monkeypatch.setattr(side, "run", note)
    return asked


@pytest.mark.on("mariadb")
@pytest.mark.parametrize(("commits", "lanes", "most"), [(1, 1, 2), (1, 3, 2), (2, 1, 4), (2, 2, 4)])
def test_commits_of_several_lanes(
    worker: Worker,
    other: Worker,
    monkeypatch: pytest.MonkeyPatch,
    commits: int,
    lanes: int,
    most: int,
) -> None:
    """Where no lane has more than one commit that is not known, a check asks twice."""
    writers = [Worker(worker.database) for _ in range(lanes)]
    pages = [f"{lane} {number}" for lane in range(lanes) for number in range(commits)]
    for page in pages:
        for writer in writers:
            writer.write(page, "old")
    assert [other.read(page) for page in pages] == ["old"] * len(pages)
    assert other.wiki.names == frozenset(pages)
    asked = _statements(other, monkeypatch)
    for page in pages:
        writers[int(page.split()[0])].write(page, "new")
    with other.cache_manager.request():
        assert [PageText(other, page).text for page in pages] == ["new"] * len(pages)
    assert len(asked) == most
    assert [other.read(page) for page in pages] == ["new"] * len(pages)
    assert len(asked) == most + len(pages)


@pytest.mark.on("mariadb")
@pytest.mark.parametrize("commits", [0, 1, 2])
def test_a_lane_that_is_new(worker: Worker, other: Worker, commits: int) -> None:
    """A connection that was made since has committed."""
    for name in ("0", "1", "2"):
        worker.write(name, "old")
        assert other.read(name) == "old"
    passing = Worker(worker.database)
    with passing.engine.connect() as connection:
        connection.execute(text("SELECT 1"))
    for number in range(commits):
        passing.write(str(number), "new")
    if commits == 0:
        worker.write("0", "new")
    news = [other.read(name) for name in ("0", "1", "2")]
    assert news == ["new" if int(name) < max(commits, 1) else "old" for name in "012"]


@pytest.mark.on("mariadb")
@pytest.mark.parametrize("how", ["another history", "no row of the commit before", "no lane"])
def test_a_lane_that_goes_on_elsewhere(worker: Worker, other: Worker, how: str) -> None:
    """A restored database: the lane has the number after the known one, and is not its sequel."""
    for _ in range(2):
        worker.write("Front", "old")
    assert other.read("Front") == "old"
    with worker.database.engine().begin() as connection:
        lane, value = connection.execute(
            text("SELECT lane, value FROM cache_lane ORDER BY value DESC LIMIT 1")
        ).one()
        before = {"lane": lane, "value": value}
        where = "WHERE lane = :lane AND position = :value"
        if how == "another history":
            connection.execute(text(f"UPDATE cache SET token = token + 1 {where}"), before)
        elif how == "no row of the commit before":
            connection.execute(text(f"DELETE FROM cache {where}"), before)
        if how == "no lane":
            connection.execute(text("DELETE FROM cache_lane WHERE lane = :lane"), before)
        else:
            connection.execute(
                text("UPDATE cache_lane SET value = value + 1, token = 5 WHERE lane = :lane"),
                before,
            )
            connection.execute(
                text(
                    "INSERT INTO cache (`key`, key_hash, lane, position, token) "
                    "VALUES ('another', 1, :lane, :value + 1, 5)"
                ),
                before,
            )
        connection.execute(text("UPDATE page SET text = 'new'"))
    assert other.read("Front") == "new"
