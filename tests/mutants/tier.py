"""The tier and generations."""

from __future__ import annotations

from .mutant import Mutant

SHARED = "tier/test_shared.py::test_"

MUTANTS = [
    Mutant(
        "put-without-another-look",
        "shared.py",
        "        return self._store.holds(entry)\n\n    def _put",
        "        return True\n\n    def _put",
        (f"{SHARED}an_old_snapshot_is_not_put_under_a_new_generation",),
        core=True,
    ),
    Mutant(
        "found-whatever-it-depends-on",
        "shared.py",
        "        known = self._generations(list(found.dependencies), transactions)\n"
        "        return _entry(slot, found, label) if known == found.dependencies else None\n",
        "        return _entry(slot, found, label)\n",
        (f"{SHARED}what_it_depends_on_counts",),
    ),
    Mutant(
        "a-del-does-not-hide-what-the-tier-has",
        "loading.py",
        "        if found is None or self._hides(read.scope, found.keys):\n"
        "            return None\n"
        "        self._store.publish",
        "        if found is None:\n            return None\n        self._store.publish",
        (f"{SHARED}a_value_of_the_tier_is_hidden_by_a_del",),
    ),
    Mutant(
        "pruned-without-a-mark",
        "ledger/base.py",
        "            self.mark(execute, max(map(max, batches)))\n",
        "",
        (
            f"{SHARED}a_generation_never_comes_back",
            f"{SHARED}pruned_and_what_was_put_before",
        ),
        core=True,
    ),
    Mutant(
        "sqlite-prunes-beyond-its-mark",
        "ledger/sqlite.py",
        "        marked = int(marks[0][0]) if marks else 0\n",
        "        marked = self._newest_row(execute) - max(keep, 1)\n",
        (f"{SHARED}pruned_within_transactions",),
    ),
]
