"""Generations: what the ledger holds of a key at one moment, as one short text.

A generation changes with every invalidation of its key that commits, and never comes back.  It is a
digest of how many rows the key has and what their tokens add up to, and of the same of the
ledger's marks:

- rows are only added, except by pruning;
- a row that was committed after the generation was read is not pruned before a new mark is
  committed (`Ledger.prune`), and marks never come back.

So whoever finds the same generation twice knows that nothing invalidated the key in between, in
whatever order transactions committed, after a crash, and in a database that was restored: tokens
are random, and rows that are restored stand for the data that are restored with them.  That other
rows add up to the same is as likely as that a random number of 63 bits comes twice.

The database adds up, since a key that is invalidated often has many rows.  Rows are told apart by
the hash of their key: another key of the same hash would change the generation as well, in every
process alike, which costs a value and nothing else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

from ..keys import key_hash, to_stored
from .base import MARKS, REMEMBERED, Execute, Ledger, chunks

#: A key with more rows than this has no generation: it is invalidated too often to be worth it.
MOST_ROWS = 4_000

#: Keys of the whole ledger that are read at once; with more there are no generations.
_WHOLE = 200_000

#: In two halves: SQLite's sums are integers of 64 bits.
_SUMS = "COUNT(*), SUM(token >> 32), SUM(token & 4294967295)"


def generations(ledger: Ledger, execute: Execute, keys: Sequence[str]) -> dict[str, str]:
    """Return the generation of each of *keys*, as of a moment during the call.

    Where *keys* have more than `MOST_ROWS` rows each on average they are left out, and so is every
    key of a ledger without a mark (`Ledger.mark` writes the first).
    """
    found: dict[str, str] = {}
    for chunk in chunks(keys):
        # Its text is made once: that takes as long as SQLite's answer.
        question = ledger.remembered_questions.get(len(chunk))
        if question is None:
            question = _question(ledger, len(chunk))
        hashes = [key_hash(to_stored(key)) for key in chunk]
        rows = execute(question, hashes).rows
        if sum(row[2] for row in rows if not row[0]) <= MOST_ROWS * len(chunk):
            found.update(_digests(rows, zip(chunk, hashes, strict=True)))
    return found


def _question(ledger: Ledger, keys: int) -> str:
    places = ", ".join("?" * keys)
    question = _of_marks_and(
        ledger,
        f"(SELECT key_hash, token FROM {ledger.log_name} WHERE key_hash IN ({places}) "
        f"AND lane >= 0 LIMIT {MOST_ROWS * keys + 1}) found",
    )
    if keys <= REMEMBERED:
        ledger.remembered_questions[keys] = question
    return question


def _of_marks_and(ledger: Ledger, rows: str) -> str:
    """One statement, so one snapshot: what the marks add up to (1), and the *rows* by key (0)."""
    return ledger.sql(
        f"SELECT 1, 0, {_SUMS} FROM {ledger.log_name} WHERE lane = {MARKS} UNION ALL "
        f"SELECT 0, key_hash, {_SUMS} FROM {rows} GROUP BY key_hash"
    )


def all_generations(ledger: Ledger, execute: Execute, keys: Iterable[str]) -> dict[str, str]:
    """`generations` of any number of keys with one query, which reads the whole ledger."""
    everything = f"(SELECT key_hash, token FROM {ledger.log_name} WHERE lane >= 0) found"
    question = f"{_of_marks_and(ledger, everything)} LIMIT {_WHOLE}"
    rows = execute(question, ()).rows
    if len(rows) == _WHOLE:
        return {}
    return _digests(rows, ((key, key_hash(to_stored(key))) for key in keys))


def _digests(rows: Sequence[Sequence[Any]], keys: Iterable[tuple[str, int]]) -> dict[str, str]:
    (marks,) = [row[2:] for row in rows if row[0]]
    if not marks[0]:
        return {}
    named = {row[1]: _digest(marks, row[2:]) for row in rows if not row[0]}
    unnamed = _digest(marks, (0, 0, 0))
    return {key: named.get(number, unnamed) for key, number in keys}


def _digest(marks: Sequence[Any], rows: Sequence[Any]) -> str:
    # Some drivers give sums as Decimal.
    text = " ".join([str(int(number)) for number in (*marks, *rows)])
    return hashlib.blake2b(text.encode(), digest_size=15).hexdigest()
