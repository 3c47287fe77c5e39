"""The checker itself: tiny histories with one anomaly each, and ones that are right."""

from __future__ import annotations

import pytest

from . import anomaly
from .checker import Checker
from .history import parse

COMMITTED_BY_A = """
A request
A begin
A write x=1:a1
A del x
A commit
A committed
A end
"""

CONVICTED = {
    "stale": (
        anomaly.STALE,
        COMMITTED_BY_A + "B request\nB read x: x=0:start",
    ),
    "stale through a derived attribute": (
        anomaly.STALE,
        COMMITTED_BY_A + "B request\nB read sum: y=0:start x=0:start",
    ),
    "stale in the request after the own one": (
        anomaly.STALE,
        COMMITTED_BY_A + "A request\nA read x: x=0:start",
    ),
    "uncommitted": (
        anomaly.UNCOMMITTED,
        """
        A request
        A begin
        A write x=1:a1
        B request
        B read x: x=1:a1
        A commit
        A committed
        """,
    ),
    "uncommitted and then rolled back": (
        anomaly.UNCOMMITTED,
        """
        A request
        A begin
        A write x=1:a1
        B request
        B read x: x=1:a1
        A rollback
        """,
    ),
    "aborted": (
        anomaly.ABORTED,
        """
        A request
        A begin
        A write x=1:a1
        A del x
        A rollback
        B request
        B read x: x=1:a1
        """,
    ),
    "aborted, read by the one who rolled back": (
        anomaly.ABORTED,
        """
        A request
        A begin
        A write x=1:a1
        A read x: x=1:a1
        A rollback
        A read x: x=1:a1
        """,
    ),
    "savepoint leak": (
        anomaly.SAVEPOINT_LEAK,
        """
        A request
        A begin
        A savepoint s
        A write x=1:a1
        A del x
        A undo s
        A read x: x=1:a1
        A commit
        A committed
        """,
    ),
    "savepoint leak, to another request": (
        anomaly.SAVEPOINT_LEAK,
        """
        A request
        A begin
        A savepoint s
        A write x=1:a1
        A undo s
        A commit
        A committed
        B request
        B read x: x=1:a1
        """,
    ),
    "unstable": (
        anomaly.UNSTABLE,
        "B request\nB read x: x=0:start\n" + COMMITTED_BY_A + "B read x: x=1:a1",
    ),
    "unstable after an invalidation of something else": (
        anomaly.UNSTABLE,
        "B request\nB read x: x=0:start\nB del y\n" + COMMITTED_BY_A + "B read x: x=1:a1",
    ),
    "lost own write in the transaction": (
        anomaly.LOST_OWN_WRITE,
        """
        A request
        A begin
        A write x=1:a1
        A del x
        A read x: x=0:start
        """,
    ),
    "lost own write, the second one": (
        anomaly.LOST_OWN_WRITE,
        """
        A request
        A begin
        A write x=1:a1
        A del x
        A read x: x=1:a1
        A write x=2:a2
        A read x: x=1:a1
        """,
    ),
    "lost own write after the commit": (
        anomaly.LOST_OWN_WRITE,
        """
        A request
        A begin
        A write x=1:a1
        A del x
        A commit
        A committed
        A read x: x=0:start
        """,
    ),
    "lost own write of a released savepoint": (
        anomaly.LOST_OWN_WRITE,
        """
        A request
        A begin
        A savepoint s
        A write x=1:a1
        A del x
        A release s
        A read x: x=0:start
        """,
    ),
}

RIGHT = {
    "read after the commit": COMMITTED_BY_A + "B request\nB read x: x=1:a1",
    "begun before the commit": "B request\n" + COMMITTED_BY_A + "B read x: x=0:start",
    "a commit that has not returned yet": """
        A request
        A begin
        A write x=1:a1
        A commit
        B request
        B read x: x=1:a1
        C request
        C read x: x=0:start
        A committed
        """,
    "own values": """
        A request
        A read x: x=0:start
        A begin
        A write x=1:a1
        A read x: x=0:start   # no del yet
        A del x
        A read x: x=1:a1
        A savepoint s
        A write x=2:a2
        A read x: x=2:a2
        A undo s
        A read x: x=1:a1
        A rollback
        A read x: x=0:start
        """,
    "own invalidation of a part": """
        A request
        A read sum: x=0:start y=0:start
        A begin
        A write x=1:a1
        A del x
        A read sum: x=1:a1 y=0:start
        A commit
        A committed
        A read sum: x=1:a1 y=0:start
        """,
}


@pytest.mark.parametrize("title", CONVICTED)
def test_convicts(title: str) -> None:
    name, story = CONVICTED[title]
    found = Checker(parse(story)).anomalies
    assert [found_one.name for found_one in found] == [name]


@pytest.mark.parametrize("title", RIGHT)
def test_acquits(title: str) -> None:
    assert [str(anomaly) for anomaly in Checker(parse(RIGHT[title])).anomalies] == []


def test_the_record_of_the_database_decides_about_a_commit_that_raised() -> None:
    story = """
        A request
        A begin
        A write x=1:a1
        A del x
        A commit
        A rollback      # the connection was lost
        B request
        B read x: x=1:a1
        """
    assert [a.name for a in Checker(parse(story)).anomalies] == [anomaly.ABORTED]
    assert Checker(parse(story), record={"a1"}).anomalies == []


def test_a_commit_that_the_database_lost_is_told() -> None:
    found = Checker(parse(COMMITTED_BY_A), record=()).anomalies
    assert [found_one.name for found_one in found] == [anomaly.LOST_COMMIT]


def test_an_anomaly_is_a_story() -> None:
    (found,) = Checker(parse(COMMITTED_BY_A + "B request\nB read x: x=0:start")).anomalies
    told = str(found).splitlines()
    assert told[0].startswith("stale: x was x=1:a1, whose COMMIT had returned")
    assert [line.split("ms  ")[1] for line in told[1:]] == [
        "A begin",
        "A write x=1:a1",
        "A del x",
        "A commit",
        "A committed",
        "B request",
        "B read x: x=0:start",
    ]
