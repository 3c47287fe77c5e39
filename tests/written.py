"""The moment at which the rows of the ledger are written and the COMMIT comes next."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

from sqlalchemy import Engine

from coherent_cache.transaction import Transaction
from coherent_cache.writing import LedgerWriter

#: Given the pool's object for the connection.
Action: TypeAlias = Callable[[Any], object]

_actions: weakref.WeakKeyDictionary[Engine, list[Action]] = weakref.WeakKeyDictionary()
_write_at_the_commit = LedgerWriter.write_at_the_commit


def _write_and_act(
    self: LedgerWriter, transaction: Transaction, pooled: Any, *, alone: bool
) -> bool:
    actions = list(_actions.get(self._engine, ()))
    # Where there is something to do in between, rows and COMMIT are two messages.
    ended = _write_at_the_commit(self, transaction, pooled, alone=alone and not actions)
    for action in actions:
        action(pooled)
    return ended


LedgerWriter.write_at_the_commit = _write_and_act  # type: ignore[method-assign]


@contextmanager
def when_written(engine: Engine, action: Action) -> Iterator[None]:
    """Do *action* in each COMMIT on *engine* that the block makes."""
    actions = _actions.setdefault(engine, [])
    actions.append(action)
    try:
        yield
    finally:
        actions.remove(action)


def once_written(engine: Engine, action: Action) -> None:
    """Do *action* in the next COMMIT on *engine*."""
    actions = _actions.setdefault(engine, [])

    def act(pooled: Any) -> None:
        actions.remove(act)
        action(pooled)

    actions.append(act)
