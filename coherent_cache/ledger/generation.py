"""Generations: what the ledger holds of a key at one moment, as one short text.

A generation changes with every invalidation of its key that commits, and never comes back.  It is a
digest of the tokens of all rows that the key has and of the ledger's mark:

- rows are only added, except by pruning;
- a row that was committed after the generation was read is not pruned before a new mark is
  committed (`Ledger.prune`), and marks never come back.

So whoever finds the same generation twice knows that nothing invalidated the key in between, in
whatever order transactions committed, after a crash, and in a database that was restored: tokens
are random, and rows that are restored stand for the data that are restored with them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

from ..keys import from_stored, key_hash, to_stored
from .base import MARKS, REMEMBERED, Execute, Ledger, chunks

#: A key with more rows than this has no generation: it is invalidated too often to be worth it.
MOST_ROWS = 1_000

#: Rows of the whole ledger that are read at once; with more there are no generations.
_WHOLE = 200_000


def generations(ledger: Ledger, execute: Execute, keys: Sequence[str]) -> dict[str, str]:
    """Return the generation of each of *keys*, as of a moment during the call.

    One that has too many rows is left out, and so is every key of a ledger without a mark
    (`Ledger.mark` writes the first).
    """
    found: dict[str, str] = {}
    for chunk in chunks(keys):
        # Its text is made once: that takes as long as SQLite's answer.
        question = ledger.remembered_questions.get(len(chunk))
        if question is None:
            question = _question(ledger, len(chunk))
        rows = execute(question, [key_hash(to_stored(key)) for key in chunk]).rows
        if len(rows) <= MOST_ROWS * len(chunk):
            found.update(_digests(rows, chunk))
    return found


def _question(ledger: Ledger, keys: int) -> str:
    marks = ", ".join("?" * keys)
    question = ledger.sql(
        f"SELECT lane, '', token FROM {ledger.log_name} WHERE lane = {MARKS} UNION ALL "
        f"SELECT lane, {ledger.key_column}, token FROM {ledger.log_name} "
        f"WHERE key_hash IN ({marks}) AND lane >= 0 LIMIT {MOST_ROWS * keys + 1}"
    )
    if keys <= REMEMBERED:
        ledger.remembered_questions[keys] = question
    return question


def all_generations(ledger: Ledger, execute: Execute, keys: Iterable[str]) -> dict[str, str]:
    """`generations` of any number of keys with one query, which reads the whole ledger."""
    rows = execute(
        f"SELECT lane, {ledger.key_column}, token FROM {ledger.log_name} LIMIT {_WHOLE}", ()
    ).rows
    return _digests(rows, keys) if len(rows) < _WHOLE else {}


def _digests(rows: Iterable[Sequence[Any]], keys: Iterable[str]) -> dict[str, str]:
    marks: list[int] = []
    tokens: dict[str, list[int]] = {}
    for lane, key, token in rows:
        if lane == MARKS:
            marks.append(token)
        else:
            tokens.setdefault(from_stored(key), []).append(token)
    if not marks:
        return {}
    unnamed = _digest(marks, ())
    return {key: _digest(marks, tokens[key]) if key in tokens else unnamed for key in keys}


def _digest(marks: Sequence[int], tokens: Sequence[int]) -> str:
    text = f"{sorted(marks)} {sorted(tokens)}"
    return hashlib.blake2b(text.encode(), digest_size=15).hexdigest()
