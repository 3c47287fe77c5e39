"""The protections of the short ways that a read may take."""

from .mutant import Mutant

GETTERS = "test_getters.py"

MUTANTS = [
    Mutant(
        "memorise-after-the-del",
        "view.py",
        "            memo[index] = {instance: item}\n        if self.changes != changes:\n            empty(memo)\n",
        "            memo[index] = {instance: item}\n",
        (
            "schedules/test_cases_01_to_05.py::test_case_03_memorised_after_the_del",
            f"{GETTERS}::test_an_ended_view_memorises_nothing",
        ),
        core=True,
    ),
    Mutant(
        "memo-outlives-an-invalidation",
        "view.py",
        "        found = forget(self.values, keys)\n        self._empty_memo()\n",
        "        found = forget(self.values, keys)\n",
        ("guarantees/test_g03_own_writes.py::test_g03_in_the_transaction_and_after_it",),
        core=True,
    ),
    Mutant(
        "memo-of-an-ended-view",
        "view.py",
        "            self.memo[0] = None\n        self._empty_memo()\n",
        "            self.memo[0] = None\n",
        ("web/test_views.py::test_an_ended_view_is_gone_from_copies_of_its_context",),
    ),
    Mutant(
        "memo-answers-a-retriever",
        "loading.py",
        "        current_memo.set(NO_MEMO)\n",
        "",
        (f"{GETTERS}::test_what_is_memorised_is_a_dependency",),
    ),
    Mutant(
        "memo-by-equal-instance",
        "getters.py",
        "    if variant.by_identity:\n",
        "    if True:\n",
        (f"{GETTERS}::test_instances_that_say_what_they_are_equal_to",),
    ),
    Mutant(
        "memo-by-equal-part",
        "getters.py",
        "        if now is part:\n",
        "        if now == part:\n",
        (f"{GETTERS}::test_a_key_part_that_changes",),
    ),
    Mutant(
        "slot-by-equal-part",
        "descriptors.py",
        "        if type(part) is not str and type(part) is not int:\n",
        "        if type(part) is list:\n",
        (f"{GETTERS}::test_parts_that_are_equal_and_not_the_same",),
    ),
    Mutant(
        "short-way-beside-a-transaction",
        "getters.py",
        "        and not (scope.transactions_here or scope.sessions_here)\n",
        "",
        ("guarantees/test_g03_own_writes.py::test_g03_in_the_transaction_and_after_it",),
        core=True,
    ),
    Mutant(
        "short-way-without-a-look",
        "getters.py",
        "        view.checked_at == view.commits\n        and not (",
        "        not (",
        ("guarantees/test_g01_strict.py::test_g01_another_worker",),
        core=True,
    ),
    Mutant(
        "short-way-with-another-manager",
        "getters.py",
        "    if manager_of(instance, slot.key).core is not core:\n        return UNKNOWN\n",
        "",
        (f"{GETTERS}::test_managers_are_told_apart",),
    ),
    Mutant(
        "store-takes-variants-for-one-another",
        "store.py",
        "            if found.variant is slot.variant:\n",
        "            if True:\n",
        ("test_eviction.py::test_variants_of_a_key",),
    ),
]
