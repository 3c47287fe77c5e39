"""The tier and generations."""

from __future__ import annotations

from .mutant import Mutant

SHARED = "tier/test_shared.py::test_"
SCHEDULES = "schedules/test_tier.py::test_"
NAMES = "tier/test_names.py::test_"
NEIGHBOUR = "tier/test_neighbour.py::test_"

MUTANTS = [
    Mutant(
        "put-without-another-look",
        "shared.py",
        "        return self._store.holds(entry)\n\n    def _put",
        "        return True\n\n    def _put",
        (
            f"{SHARED}an_old_snapshot_is_not_put_under_a_new_generation",
            f"{SCHEDULES}commit_at_each_moment_of_a_put",
            f"{SCHEDULES}evicted_and_loaded_again_between_the_generations_and_the_look",
        ),
        core=True,
    ),
    Mutant(
        "what-the-tier-has-is-labelled-when-it-is-found",
        "shared.py",
        "        found = self._ask(slot.key, variant, generation)\n",
        "        found = self._ask(slot.key, variant, generation)\n"
        "        label = self._store.label\n",
        (f"{SCHEDULES}commit_before_the_tier_is_asked",),
        core=True,
    ),
    Mutant(
        "a-put-asks-beside-what-was-open-before-the-load",
        "loading.py",
        "            shared.put(entry, self._around(read))\n",
        "            shared.put(entry, ())\n",
        (f"{NEIGHBOUR}put_beside_a_transaction_that_the_retriever_began",),
    ),
    Mutant(
        "a-tier-keeps-its-lock-over-a-fork",
        "tier/tier.py",
        "        tell_after_fork(self)\n",
        "",
        (f"{NEIGHBOUR}forked_while_another_thread_counts",),
    ),
    Mutant(
        "whichever-class-of-a-name-is-used-first-is-shared",
        "descriptors.py",
        "    if not _stands_at_its_name(kind):\n        return None\n    name =",
        "    name =",
        (f"{NAMES}an_attribute_of_two_classes_of_one_name",),
    ),
    Mutant(
        "attributes-without-a-name-are-shared",
        "descriptors.py",
        "            tier = self.tier and self._is_known_by_its_name()\n",
        "            tier = self.tier\n",
        (f"{NAMES}attributes_without_a_name", f"{NAMES}an_attribute_that_was_replaced"),
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
