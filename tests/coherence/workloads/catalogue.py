"""The workloads, each with a name."""

from __future__ import annotations

from .attributes import Item, Pair, Sum, Total
from .holding import hold, hold_and_write
from .reading import read, script
from .upkeep import invalidate, prune
from .workload import Workload
from .writing import write, write_blindly

#: A bit of everything, mostly reading.
_MIX = {read: 58, write: 26, write_blindly: 4, script: 8, hold: 2, prune: 1, invalidate: 2}
_SHOWN = {Item: 7, Sum: 3}

WORKLOADS = {
    "mixed": Workload("a bit of everything, through Core", _MIX, _SHOWN),
    "orm": Workload("a session a request, whose objects expire", _MIX, _SHOWN, orm=True),
    "orm-keep": Workload(
        "a session a request, whose objects outlive their transaction (expire_on_commit=False)",
        _MIX,
        _SHOWN,
        orm=True,
        expire_on_commit=False,
    ),
    "async": Workload("tasks on an AsyncEngine, through Core", _MIX, _SHOWN, is_async=True),
    "async-orm": Workload(
        "tasks, each request with an AsyncSession",
        _MIX,
        _SHOWN,
        is_async=True,
        orm=True,
        expire_on_commit=False,
    ),
    "hot": Workload(
        "one key, and everybody wants it",
        {read: 50, write: 30, write_blindly: 10, script: 8, invalidate: 2},
        {Item: 1},
        items=1,
        keys=1,
    ),
    "many": Workload("four hundred keys", _MIX, {Item: 6, Sum: 3, Total: 1}, items=400),
    "several": Workload(
        "up to eight keys a transaction, read together",
        {read: 40, write: 50, write_blindly: 10},
        {Item: 3, Sum: 7},
        keys=8,
    ),
    "pruned": Workload(
        "the ledger is pruned to nothing all the time",
        {read: 50, write: 25, script: 5, prune: 15, invalidate: 5},
        _SHOWN,
        keep=0,
    ),
    "two-tables": Workload(
        "values joined from two tables, both written to",
        _MIX,
        {Item: 3, Pair: 6, Sum: 1},
        tables="in",
    ),
    "nested": Workload(
        "values computed from cached values, three deep",
        _MIX,
        {Item: 1, Sum: 3, Total: 6},
        items=18,
    ),
    "long": Workload(
        "long transactions, held open while others commit",
        {read: 45, write: 25, hold: 15, hold_and_write: 10, script: 5},
        _SHOWN,
        longest=0.4,
    ),
    "slow": Workload("slow retrievers", _MIX, _SHOWN, slow=(0.5, 0.03)),
}
