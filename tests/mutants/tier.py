"""The tier and generations."""

from __future__ import annotations

from .mutant import Mutant

SHARED = "tier/test_shared.py::test_"
ONCE = "tier/test_once.py::test_"
SCHEDULES = "schedules/test_tier.py::test_"
NAMES = "tier/test_names.py::test_"
NEIGHBOUR = "tier/test_neighbour.py::test_"

MUTANTS = [
    Mutant(
        "put-without-another-look",
        "shared.py",
        "        return self._check(transactions) and self._store.holds(entry)\n",
        "        return self._check(transactions)\n",
        (
            f"{SHARED}an_old_snapshot_is_not_put_under_a_new_generation",
            f"{SHARED}a_transaction_opened_before_the_generation_was_read",
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
        "            shared.put(entry, self._around(read), look.generation)\n",
        "            shared.put(entry, (), look.generation)\n",
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
        "        fits = known == found.dependencies\n",
        "        fits = True\n",
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
        "a-generation-counts-rows-only",
        "ledger/generation.py",
        '_SUMS = "COUNT(*), SUM(token >> 32), SUM(token & 4294967295)"\n',
        '_SUMS = "COUNT(*), 0, 0"\n',
        (f"{SHARED}one_row_goes_and_another_comes",),
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
    Mutant(
        "the-first-mark-lets-the-first-row-go",
        "tables.py",
        '        mark["generation"] = 0\n',
        "        pass\n",
        (f"{SHARED}the_first_row_of_all_stays_until_a_mark",),
    ),
    Mutant(
        "once-lets-go-before-it-puts",
        "loading.py",
        "            shared.put(entry, self._around(read), look.generation)\n        return entry\n",
        "        shared.put(entry, self._around(read), look.generation)\n        return entry\n",
        (f"{ONCE}the_value_is_there_before_the_lock_is_free",),
        core=True,
    ),
    Mutant(
        "once-computes-without-a-second-look",
        "once.py",
        "            return 0.0\n",
        "            return None\n",
        (f"{ONCE}the_value_came_between_the_look_and_the_lock",),
        core=True,
    ),
    Mutant(
        "once-waits-with-a-connection-in-hand",
        "once.py",
        "            seconds = min(seconds, PATIENCE)\n",
        "            pass\n",
        (f"{ONCE}who_holds_a_connection_waits_for_a_second",),
    ),
    Mutant(
        "once-waits-with-a-lock-in-hand",
        "once.py",
        "            seconds = 0.0\n",
        "            pass\n",
        (f"{ONCE}two_values_computed_from_each_other_the_other_way_round",),
    ),
    Mutant(
        "once-waits-for-its-own-process",
        "once.py",
        "            if place in self._taken:\n                return False\n",
        "",
        (f"{ONCE}pool_of_one", f"{ONCE}a_circle_through_a_flight"),
    ),
    Mutant(
        "once-named-by-key-alone",
        "once.py",
        '{len(variant)} {variant} {generation}"',
        '{len(variant)} {variant}"',
        (f"{ONCE}new_readers_do_not_wait_for_the_old_value",),
    ),
    Mutant(
        "once-labels-as-of-before-the-wait",
        "loading.py",
        "                look = shared.look(read.slot, self._around(read), check=waited)\n",
        "                look = shared.look(read.slot, self._around(read), check=False)\n",
        (f"{ONCE}one_who_waited_for_the_old_value_computes_the_new_one_for_all",),
    ),
    Mutant(
        "once-keeps-what-a-cancelled-reader-took",
        "once.py",
        "            turn.mutex.release()\n            self._turns.leave(turn.place)\n",
        "            self._turns.leave(turn.place)\n",
        (f"{ONCE}cancelled_while_it_takes_the_lock",),
    ),
    Mutant(
        "share-whatever-is-in-memory",
        "shared.py",
        "                if entry.keys <= generations.keys() and self._store.holds(entry)\n",
        "                if entry.keys <= generations.keys()\n",
        ("tier/test_many.py::test_what_is_old_in_memory_is_not_put",),
    ),
    Mutant(
        "prefetch-whatever-it-depends-on",
        "shared.py",
        "            if each.dependencies.items() <= known.items()\n",
        "",
        ("tier/test_many.py::test_what_was_invalidated_is_not_brought",),
    ),
    Mutant(
        "turns-survive-fork",
        "loading.py",
        "            self._turns.after_fork()\n",
        "            pass\n",
        ("tier/test_once.py::test_a_child_forked_while_another_thread_computes",),
    ),
]
