"""Protections that only an exact schedule shows."""

from __future__ import annotations

from .mutant import Mutant

S01 = "schedules/test_cases_01_to_05.py::test_case_"
S06 = "schedules/test_cases_06_to_10.py::test_case_"
S11 = "schedules/test_cases_11_to_15.py::test_case_"
S16 = "schedules/test_cases_16_to_20.py::test_case_"
C06 = "hard_cases/test_case_06_old_snapshot.py::test_case_06_"

MUTANTS = [
    Mutant(
        "a-view-keeps-what-was-loaded-before-a-del",
        "view.py",
        "            if self.changes != changes and self._was_forgotten(changes, entry):\n",
        "            if False:\n",
        (f"{S01}03_kept_after_the_del", f"{S01}03_taken_over_after_the_del"),
        core=True,
    ),
    Mutant(
        "a-memo-keeps-what-was-loaded-before-a-del",
        "view.py",
        "        if self.changes != changes or memo[0] is not self:\n            empty(memo)\n",
        "",
        (f"{S01}03_memorised_after_the_del",),
        core=True,
    ),
    Mutant(
        "the-memo-is-not-told-of-a-del",
        "view.py",
        "        self._empty_memo()\n        return found\n",
        "        return found\n",
        ("guarantees/test_g03_own_writes.py::test_g03_in_the_transaction_and_after_it",),
        core=True,
    ),
    Mutant(
        "the-short-way-does-not-ask-whether-the-view-has-looked",
        "view.py",
        "            self.core.stir()\n",
        "            pass\n",
        (
            "test_first_read.py::test_after_a_new_beginning",
            "test_first_read.py::test_after_an_own_commit",
        ),
        core=True,
    ),
    Mutant(
        "the-short-way-does-not-ask-for-an-own-rule",
        "getters.py",
        "        if resolve._resolver is None:\n",
        "        if True:\n",
        ("test_first_read.py::test_the_applications_own_rule",),
    ),
    Mutant(
        "the-short-way-does-not-see-transactions",
        "getters.py",
        "        view.calm is core.unrest\n        and (found",
        "        (found",
        ("guarantees/test_g03_own_writes.py::test_g03_in_the_transaction_and_after_it",),
    ),
    Mutant(
        "position-moves-before-the-news-are-applied",
        "reader.py",
        "        self._store.apply(news)\n        self._position = news.position\n"
        "        self._session = self._side.session\n",
        "        self._position = news.position\n        self._session = self._side.session\n"
        "        self._store.apply(news)\n",
        (f"{S11}11_interrupted_at_each_moment_of_a_look",),
        core=True,
    ),
    Mutant(
        "label-from-another-connection",
        "load.py",
        "        self.touched.setdefault(transaction, (label, transaction.undone))\n",
        "        if not self.touched:\n"
        "            self.touched[transaction] = (label, transaction.undone)\n",
        (f"{C06}two_connections_in_one_load",),
        core=True,
    ),
    Mutant(
        "waits-in-a-circle",
        "flights.py",
        "            if step.chain is chain and step is not flight:\n                return False\n",
        "            if step.chain is chain and step is not flight:\n                return True\n",
        (f"{S16}16_opposite_orders",),
    ),
    Mutant(
        "a-waiter-takes-what-is-too-old-for-it",
        "loading.py",
        "        if entry is None or entry.label < read.view.label:\n",
        "        if entry is None:\n",
        (f"{S16}16_a_waiter_with_a_newer_view",),
    ),
    Mutant(
        "a-look-is-over-before-it-began",
        "core.py",
        "            self.access.check(list",
        "            view.checked_at = view.commits\n            self.access.check(list",
        (f"{S16}20_two_threads_look_at_once",),
    ),
    Mutant(
        "connections-survive-fork",
        "access.py",
        "        self.pruner.after_fork()\n        self._start()\n",
        "        self.pruner.after_fork()\n",
        (f"{S11}12_fork_while_another_thread_stands",),
    ),
    Mutant(
        "what-another-loads-is-taken-although-it-was-invalidated",
        "loading.py",
        "        if self._hides(read.scope, entry.keys):\n            return None\n        read.view.counted += 1\n",
        "        read.view.counted += 1\n",
        (f"{S01}03_taken_from_another_request_after_the_del",),
        core=True,
    ),
]
