"""How runs with faults are judged: tiny histories."""

from __future__ import annotations

import pytest

from .anomaly import ABORTED, LOST_COMMIT, STALE
from .checker import Checker
from .faults.aftermath import aftermath
from .faults.restored import Restored
from .history import Part, parse

KILLED_IN_ITS_COMMIT = """
A request
A begin
A write x=1:a1
A del x
A commit
"""


def names(story: str, record: list[str]) -> list[str]:
    return [anomaly.name for anomaly in Checker(parse(story), record).anomalies]


def test_what_was_found_has_to_be_seen_by_whoever_begins_after_that() -> None:
    found = KILLED_IN_ITS_COMMIT + "fault found a1\n"
    assert names(found + "B request\nB read x: x=0:start", ["a1"]) == [STALE]
    assert names(found + "B request\nB read x: x=1:a1", ["a1"]) == []
    begun_before = KILLED_IN_ITS_COMMIT + "B request\nfault found a1\nB read x: x=0:start"
    assert names(begun_before, ["a1"]) == []


def test_what_was_found_and_is_lost_is_told() -> None:
    assert names(KILLED_IN_ITS_COMMIT + "fault found a1", []) == [LOST_COMMIT]


#: Line 6 is the COMMIT's return; the restore takes from line 20 to line 30.
UNDONE = [
    "A request",
    "A begin",
    "A write x=1:a1",
    "A del x",
    "A commit",
    "A committed",
    "A end",
]
LOOKED = ["P.0.0 request", "P.0.0 read x: x=1:a1", "P.0.0 end"]


def judged(
    before: list[str], after: list[str], record: list[str], *, forgives: bool = True
) -> list[str]:
    """The anomalies where the dump has version 0 of x."""
    lines = [*before, *["fault nothing"] * (31 - len(before)), *after]
    restored = Restored(20, 30, {"x": Part("x", 0, "start")}, [], forgives)
    return [anomaly.name for anomaly in restored.judge(parse("\n".join(lines)), record)]


@pytest.mark.parametrize("reader", ["P.0.0", "P.0.1"], ids=["same thread", "same process"])
def test_who_had_read_of_the_commit_notices_that_it_was_undone(reader: str) -> None:
    reads = [f"{reader} request", f"{reader} read x: x=1:a1"]
    assert judged([*UNDONE, *LOOKED], reads, []) == [ABORTED]


def test_who_had_not_read_of_it_is_forgiven() -> None:
    reads = ["Q.0.0 request", "Q.0.0 read x: x=1:a1"]
    assert judged([*UNDONE, *LOOKED], reads, []) == []
    assert judged([*UNDONE, *LOOKED], reads, [], forgives=False) == [ABORTED]
    # A read in a transaction that has invalidated may have been made without a look.
    blind = ["Q.0.0 request", "Q.0.0 begin", "Q.0.0 del x", "Q.0.0 read x: x=1:a1"]
    assert judged([*UNDONE, *blind, "Q.0.0 rollback"], reads, []) == []


def test_what_had_never_committed_is_forgiven_to_nobody() -> None:
    rolled_back = [*UNDONE[:4], "A rollback", "A rolled-back", "A end"]
    reads = ["Q.0.0 request", "Q.0.0 read x: x=1:a1"]
    assert judged(rolled_back, reads, []) == [ABORTED]


def test_before_the_restore_everything_is_judged() -> None:
    stale = ["Q.0.0 request", "Q.0.0 read x: x=0:start"]
    assert judged([*UNDONE, *stale], [], []) == [STALE]
    assert judged(UNDONE, stale, []) == []  # after it, that is what is there


def test_what_commits_after_the_restore_is_judged_as_ever() -> None:
    again = [line.replace("a1", "b1").replace("A ", "B.0.0 ") for line in UNDONE]
    stale = ["Q.0.0 request", "Q.0.0 read x: x=0:start"]
    assert judged(UNDONE, [*again, *stale], ["b1"]) == [STALE]
    assert judged(UNDONE, again, []) == [LOST_COMMIT]


def test_a_transaction_that_was_open_meanwhile_counts_where_it_committed() -> None:
    begun = [*UNDONE, *[line.replace("a1", "b1").replace("A ", "B.0.0 ") for line in UNDONE[:3]]]
    after = ["B.0.0 commit", "B.0.0 committed", "B.0.0 end"]
    stale = ["Q.0.0 request", "Q.0.0 read x: x=0:start"]
    assert judged(begun, [*after, *stale], ["b1"]) == [STALE]
    assert judged(begun, [*after, *stale], []) == []  # it was undone with the rest


def test_what_went_on_is_counted_from_the_last_fault() -> None:
    after = aftermath(
        parse(
            """
            A request
            A read x: x=0:start
            fault kill 1.0
            A read x: x=0:start
            A end
            fault found a1
            A request
            A read x: x=1:a1
            A committed
            """
        )
    )
    assert (after.faults, after.requests, after.reads, after.commits) == (1, 1, 1, 1)
