"""The memo of a view: what makes a value that is read again cost no more than a look-up.

A view keeps its values by slot, but to name the slot of an attribute takes longer than to read a
dictionary ten times.  So it has a second map, by attribute and instance, in a form that the getter
of an attribute reads in one expression: a list with a dictionary for each attribute in the process.

A memo holds only what its view holds, and is emptied as a whole when the view loses or changes
anything.  While a retriever runs, and where no view is open, the current memo is `NO_MEMO`, which
answers nothing: such reads have something to do besides.
"""

from __future__ import annotations

import itertools
import weakref
from contextvars import ContextVar
from typing import Any, TypeAlias

#: A dictionary for each attribute, at the attribute's index.  First comes the `View` that it is
#: the memo of, or None.
Memo: TypeAlias = list[Any]

#: What a view's memo begins as: attributes that have something to do at the first read have a
#: dictionary here whose ``__missing__`` does it; the others an empty one.
NO_MEMO: Memo = [None]

_indices = itertools.count(1)

current_memo: ContextVar[Memo] = ContextVar("coherent_cache.memo", default=NO_MEMO)


def register(owner: object, first: dict[Any, Any] | None = None) -> int:
    """Give *owner*, an attribute, an index in every memo; *first* is what answers there while
    nothing was read.  A view that is open already answers with an `IndexError` there."""
    # Numbered first: of two threads that define classes each gets a place of its own.
    index = next(_indices)
    while len(NO_MEMO) <= index:
        NO_MEMO.append({})
    if first is not None:
        NO_MEMO[index] = first
        weakref.finalize(owner, NO_MEMO.__setitem__, index, {}).atexit = False
    return index


def new_memo(view: Any) -> Memo:
    """Return an empty memo of *view*."""
    memo = NO_MEMO.copy()
    memo[0] = view
    return memo


def empty(memo: Memo) -> None:
    """Let *memo* answer nothing, also to those who are about to read it."""
    # One operation: a reader finds the old dictionary or none.
    memo[1:] = NO_MEMO[1:]
