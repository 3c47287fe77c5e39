"""The protections of the short ways that a read may take."""

from .mutant import Mutant

GETTERS = "test_getters.py"

MUTANTS = [
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
