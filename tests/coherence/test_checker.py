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

BOTH_BY_A = """
A request
A begin
A write x=1:a1
A del x
A write y=1:a2
A del y
A commit
A committed
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
    "torn, in one reading after the commit": (
        anomaly.TORN,
        BOTH_BY_A + "A read sum: x=0:start y=1:a2",
    ),
    "torn, in two readings after the commit": (
        anomaly.TORN,
        BOTH_BY_A + "A read x: x=1:a1\nA read y: y=0:start",
    ),
    "torn in the transaction": (
        anomaly.TORN,
        """
        A request
        A begin
        A write x=1:a1
        A del x
        A write y=1:a2
        A del y
        A read y: y=1:a2
        A read x: x=0:start
        """,
    ),
    "lost own write, all of it": (
        anomaly.LOST_OWN_WRITE,
        BOTH_BY_A + "A read x: x=0:start",
    ),
    "stale, and both keys of the other's transaction are": (
        anomaly.STALE,
        BOTH_BY_A + "A end\nB request\nB read sum: x=0:start y=1:a2",
    ),
    "savepoint leak, in place of the own write around it": (
        anomaly.SAVEPOINT_LEAK,
        """
        A request
        A begin
        A write x=1:a1
        A del x
        A savepoint s
        A write x=2:a2
        A undo s
        A read x: x=2:a2
        """,
    ),
    "uncommitted, by one who was killed before he could write it down": (
        anomaly.UNCOMMITTED,
        "B request\nB read x: x=1:a1",
    ),
    "uncommitted, by one who was killed": (
        anomaly.UNCOMMITTED,
        "A request\nA begin\nA write x=1:a1\nB request\nB read x: x=1:a1",
    ),
    "unstable: written, but not invalidated": (
        anomaly.UNSTABLE,
        """
        A request
        A begin
        A read x: x=0:start
        A write x=1:a1
        A read x: x=1:a1
        """,
    ),
    "unstable after a rollback": (
        anomaly.UNSTABLE,
        """
        B request
        B read y: y=0:start
        B begin
        B write x=1:b1
        B del x
        B rollback
        A request
        A begin
        A write y=1:a1
        A del y
        A commit
        A committed
        B read y: y=1:a1
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


RIGHT |= {
    "not torn: the rest was not invalidated": """
        A request
        A begin
        A write x=1:a1
        A del x
        A write y=1:a2
        A read x: x=1:a1
        A read y: y=0:start
        A rollback
        """,
    "not torn: the rest was rolled back with its savepoint": """
        A request
        A begin
        A write x=1:a1
        A del x
        A savepoint s
        A write y=1:a2
        A del y
        A undo s
        A commit
        A committed
        A read sum: x=1:a1 y=0:start
        """,
    "not torn: somebody else has written the rest since": BOTH_BY_A
    + """
        B request
        B begin
        B write y=2:b1
        B del y
        B commit
        B committed
        A read x: x=1:a1
        A read y: y=2:b1
        """,
    "not torn: others may see a part, if they began before": "B request\n"
    + BOTH_BY_A
    + "B read sum: x=0:start y=1:a2",
    "not lost: another transaction of the request came after": """
        A request
        A begin
        A write x=1:a1
        A del x
        A commit
        A committed
        A begin
        A write x=2:a2
        A del x
        A rollback
        A read x: x=1:a1
        """,
    "not aborted: its savepoint was released, and the outer one undone after the reading": """
        A request
        A begin
        A savepoint s
        A savepoint t
        A write x=1:a1
        A del x
        A release t
        A read x: x=1:a1
        A undo s
        A read x: x=0:start
        A commit
        A committed
        """,
    "not unstable: read in the transaction that was rolled back": """
        A request
        A begin
        A write y=1:a1
        A del y
        A read sum: x=0:start y=1:a1
        A rollback
        A read sum: x=0:start y=0:start
        """,
    "not unstable: invalidated by one of its parts, and then another was written": """
        A request
        A begin
        A write x=1:a1
        A del x
        A read pair: x=1:a1 y=0:start
        A write y=1:a2
        A read pair: x=1:a1 y=1:a2
        """,
    "not uncommitted: it asked for its COMMIT just before": """
        A request
        A begin
        A write x=1:a1
        A commit
        B request
        B read x: x=1:a1
        A committed
        """,
    "not stale: the later version was rolled back": COMMITTED_BY_A
    + """
        A request
        A begin
        A write x=2:a2
        A del x
        A rollback
        B request
        B read x: x=1:a1
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


KILLED_IN_COMMIT = """
A request
A begin
A write x=1:a1
A del x
A commit
B request
B read x: x=1:a1
"""


def test_the_record_decides_about_one_who_was_killed_in_his_commit() -> None:
    assert Checker(parse(KILLED_IN_COMMIT), record={"a1"}).anomalies == []
    found = Checker(parse(KILLED_IN_COMMIT), record=()).anomalies
    assert [one.name for one in found] == [anomaly.ABORTED]


def test_what_was_rolled_back_and_is_in_the_record_is_told() -> None:
    story = "A request\nA begin\nA write x=1:a1\nA rollback"
    assert Checker(parse(story), record=()).anomalies == []
    found = Checker(parse(story), record={"a1"}).anomalies
    assert [one.name for one in found] == [anomaly.LOST_COMMIT]


@pytest.mark.parametrize(("lines", "names"), [(3, []), (2, [anomaly.STALE])])
def test_within_the_bound_a_value_may_be_behind(lines: int, names: list[str]) -> None:
    story = COMMITTED_BY_A + "B request\nB read x: x=0:start"
    # The COMMIT returned in line 5, the request began in line 7; a line is a nanosecond.
    found = Checker(parse(story), bound=(lines - 1) / 1e6).anomalies
    assert [one.name for one in found] == names


def test_a_bound_excuses_nothing_but_age() -> None:
    for name, story in CONVICTED.values():
        found = [one.name for one in Checker(parse(story), bound=1_000).anomalies]
        excused = name == anomaly.STALE and "\nB " in story  # not to who committed it himself
        assert found == ([] if excused else [name])


@pytest.mark.parametrize(("reader", "names"), [("P.0.1", [anomaly.STALE]), ("P.1.0", [])])
def test_a_bound_does_not_excuse_the_process_that_committed(reader: str, names: list[str]) -> None:
    told = COMMITTED_BY_A.replace("A ", "P.0.0 ")
    story = f"{told}{reader} request\n{reader} read x: x=0:start"
    found = [one.name for one in Checker(parse(story), bound=1_000).anomalies]
    assert found == names


def test_what_somebody_else_has_found_has_not_returned_to_its_process() -> None:
    told = KILLED_IN_COMMIT.partition("A commit\n")
    story = (told[0] + told[1]).replace("A ", "P.0.0 ") + "fault found a1\nP.0.1 request\n"
    found = Checker(parse(story + "P.0.1 read x: x=0:start"), record={"a1"}, bound=1_000)
    assert found.anomalies == []


def test_the_worst_lag() -> None:
    story = "B request\n" + COMMITTED_BY_A.strip() + "\nB read y: y=0:start\nB read x: x=0:start"
    checker = Checker(parse(story))
    assert checker.anomalies == []
    assert checker.worst_lag == pytest.approx(3e-6)  # line 6 to line 9


def test_every_anomaly_is_known_by_a_history() -> None:
    told = {name for name, _ in CONVICTED.values()}
    assert told | {anomaly.LOST_COMMIT} == set(anomaly.NAMES)


def test_faults_are_part_of_the_story() -> None:
    story = COMMITTED_BY_A + "fault kill 1.0\nB request\nB read x: x=0:start\nfault kill 2.0"
    (found,) = Checker(parse(story)).anomalies
    assert "fault kill 1.0" in str(found)
    assert "fault kill 2.0" not in str(found)


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


def test_who_was_killed_in_his_commit_has_committed_when_the_write_is_found() -> None:
    story = KILLED_IN_COMMIT + "fault found a1\nC request\nC read x: x=0:start"
    (found,) = Checker(parse(story), record={"a1"}).anomalies
    assert found.name == anomaly.STALE
