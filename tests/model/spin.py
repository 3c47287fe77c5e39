"""Runs SPIN on the model: which bounds, which mutants, and what came of it."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
#: A standby of PostgreSQL is read in its own way.
DATABASES = ("postgresql", "standby", "mariadb", "sqlite")

#: A model of its own, on no database in particular.
ANNOUNCEMENTS = "announcements"

#: What is explored in one run (see the head of ``protocol.pml``).  A scope is wide enough for the
#: interleavings it is named for, and each of its runs takes a few seconds.
SCOPES = {
    # Two threads of one process and another process that writes; each statement its own snapshot.
    "threads": {},
    # The same with transactions that keep one snapshot.
    "snapshots": {"LASTING": 1},
    # Two processes that both read and write.
    "processes": {"REQUESTS_1": 0, "READS_2": 1},
    # Pruning, and invalidations of another key.
    "prune": {"REQUESTS_0": 0, "REQUESTS_1": 3, "OTHERS": 2, "PRUNES": 2},
    # A process killed and the database restarted, each at any moment.
    "ends": {"REQUESTS_0": 0, "REQUESTS_1": 2, "REQUESTS_2": 2, "CRASHES": 1, "DEATHS": 1},
    # Two writers of one host, one of them killed, who announce their commits; one who settles.
    ANNOUNCEMENTS: {},
}
WIDE = {
    "threads": {"REQUESTS_1": 2},
    "snapshots": {"LASTING": 1, "BEGINS_1": 1},
    "processes": {"REQUESTS_1": 0, "READS_2": 2},
    "prune": {"REQUESTS_0": 0, "REQUESTS_1": 3, "REQUESTS_2": 2, "OTHERS": 2, "PRUNES": 3},
    "ends": {**SCOPES["ends"], "READS_2": 1},
    ANNOUNCEMENTS: {"LOOKS": 3},
}


#: Transactions on SQLite have one snapshot in every scope.  A standby differs from PostgreSQL in
#: the reading alone.
SAME = {("sqlite", "snapshots"), ("standby", "snapshots"), ("standby", "processes")}
RUNS = [
    *((d, s) for s in SCOPES for d in DATABASES if s != ANNOUNCEMENTS and (d, s) not in SAME),
    (ANNOUNCEMENTS, ANNOUNCEMENTS),
]


@dataclass(frozen=True)
class ModelMutant:
    """A protection taken out of the model, the scope in which that shows, and the claim that
    falls first."""

    macro: str
    scope: str
    claim: str
    databases: tuple[str, ...] = ("postgresql",)


MUTANTS = [
    ModelMutant("GREATER_THAN_LAST_SEEN", "threads", "G1", ("standby", "mariadb")),
    ModelMutant("RUNNING_IGNORED", "threads", "G3"),
    ModelMutant("ANCHOR_MISSED_BY_NEW_ROWS_ALONE", "prune", "G1"),
    ModelMutant("ROWS_BEFORE_LANES", "prune", "G1", ("mariadb",)),
    ModelMutant("PRUNE_WITHOUT_ANCHOR", "prune", "G1", DATABASES),
    ModelMutant("PRUNE_IN_ANY_ORDER", "prune", "G1", ("postgresql", "standby", "sqlite")),
    ModelMutant("HORIZON_KEPT_OVER_A_CRASH", "ends", "G1", ("postgresql", "standby")),
    ModelMutant("SHARE_THE_CHECK_UNDER_WAY", "threads", "G3"),
    ModelMutant("PUBLISH_WHILE_DIRTY", "threads", "G5"),
    ModelMutant("PUBLISH_WHAT_WAS_DROPPED_MEANWHILE", "threads", "G3"),
    ModelMutant("PUBLISH_BELOW_THE_FLOOR", "threads", "G3"),
    ModelMutant("LABEL_AFTER_THE_DATA", "threads", "G3"),
    ModelMutant("LABEL_AFTER_THE_SNAPSHOT", "snapshots", "G1"),
    ModelMutant(
        "LABEL_OF_THE_SNAPSHOT_IGNORED", "snapshots", "G1", ("postgresql", "mariadb", "sqlite")
    ),
    ModelMutant("NO_LOOK_AFTER_OWN_COMMIT", "processes", "G3"),
    ModelMutant("UNKNOWN_TAKEN_FOR_ROLLBACK", "processes", "G3"),
    ModelMutant("SHOW_WHAT_IS_PENDING", "processes", "G3"),
    ModelMutant("KEEP_PRIVATE_AFTER_ROLLBACK", "processes", "G5"),
    ModelMutant("INVALIDATE_BEFORE_COMMIT", "processes", "G4"),
    ModelMutant("INVALIDATE_AFTER_COMMIT", "processes", "G4"),
    *(
        ModelMutant(macro, ANNOUNCEMENTS, "G1", (ANNOUNCEMENTS,))
        for macro in (
            "ANNOUNCED_AFTER_THE_COMMIT",
            "ANNOUNCED_BEFORE_IT_IS_OPEN",
            "LOST_TAKEN_FOR_ENDED",
            "ODD_TAKEN_FOR_EVEN",
            "OPEN_ASKED_FOR_BEFORE_THE_SLOT_IS_OWNED",
            "SETTLED_AT_ONCE",
            "SLOTS_READ_AFTER_THE_STATEMENT",
        )
    ),
]


@dataclass(frozen=True)
class Verdict:
    """What SPIN said: the claim that failed (None: all hold, in every state), and figures."""

    violated: str | None
    states: int
    depth: int
    seconds: float
    story: str = ""


def verify(
    database: str,
    scope: str,
    *,
    mutant: str | None = None,
    wide: bool = False,
    story: bool = False,
) -> Verdict:
    """Search every state of the model within *scope*, or as far as the first violation.

    With *story* it goes on for the shortest way to a violation, which is told.
    """
    bounds = (WIDE if wide else SCOPES)[scope]
    model = "announcements.pml" if database == ANNOUNCEMENTS else "protocol.pml"
    macros = [database.upper(), *([mutant] if mutant else [])]
    macros += [f"{name}={value}" for name, value in bounds.items()]
    defines = [f"-D{macro}" for macro in macros]
    with tempfile.TemporaryDirectory() as directory:
        for file in HERE.glob("*.pml"):
            shutil.copy(file, directory)
        written = _run(["spin", "-a", *defines, model], directory)
        if "Error" in written:  # it ends with 0 whatever it says of the text it read
            raise AssertionError(written)
        # A mutant's run is short and its compilation is not.
        optimized = "-O0" if mutant else "-O1"
        shorten = ["-DREACH"] if story else []
        _run(["gcc", "-w", optimized, "-DSAFETY", *shorten, "-o", "pan", "pan.c"], directory)
        start = time.monotonic()
        out = _run(["./pan", "-w23", "-m100000", *(["-i"] if story else [])], directory)
        seconds = time.monotonic() - start
        error = re.search(r"^pan:\d+: (.*?) \(at depth", out, re.MULTILINE)
        found = None if error is None else _claim(error.group(1))
        if (error is None) != (" errors: 0" in out and "not completed" not in out):
            raise AssertionError(f"the search ended early:\n{out}")
        told = ""
        if story and error is not None:
            trail = _run(["spin", "-t", "-T", "-B", *defines, model], directory)
            told = "".join(line for line in trail.splitlines(True) if not line.startswith("spin:"))
        return Verdict(found, _figure(r"(\d+) states, stored", out), _depth(out), seconds, told)


def _claim(error: str) -> str:
    """G1 … for an assertion of that name; else what SPIN says (a state that nothing leaves)."""
    match = re.fullmatch(r"assertion violated \(?(g\d)_\w+\)?", error)
    return match.group(1).upper() if match else error


def _depth(out: str) -> int:
    return _figure(r"depth reached (\d+)", out)


def _figure(pattern: str, out: str) -> int:
    match = re.search(pattern, out)
    assert match is not None, out
    return int(match.group(1))


def _run(command: list[str], directory: str) -> str:
    done = subprocess.run(
        command, cwd=directory, capture_output=True, text=True, timeout=600, check=False
    )
    out = done.stdout + done.stderr
    if command[0] == "gcc" and done.returncode != 0:
        raise AssertionError(out)
    return out
