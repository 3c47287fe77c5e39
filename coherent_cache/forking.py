"""Tells managers that the process is about to fork, and that they are in a forked child."""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class _Forkable(Protocol):
    def after_fork(self) -> None: ...


class _Preparing(Protocol):
    def before_fork(self) -> None: ...


_known: weakref.WeakSet[_Forkable] = weakref.WeakSet()
_preparing: weakref.WeakSet[_Preparing] = weakref.WeakSet()


def tell_before_fork(preparing: _Preparing) -> None:
    """Call ``preparing.before_fork()`` before this process forks, while it lives."""
    _preparing.add(preparing)


def tell_after_fork(forkable: _Forkable) -> None:
    """Call ``forkable.after_fork()`` in each child that this process forks, while it lives."""
    _known.add(forkable)


def _in_parent() -> None:
    for preparing in list(_preparing):
        preparing.before_fork()


def _in_child() -> None:
    for forkable in list(_known):
        forkable.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_in_parent, after_in_child=_in_child)
