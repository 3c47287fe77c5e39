"""Protections of whose transaction it is, where contexts are inherited."""

from __future__ import annotations

from .mutant import Mutant

FINDING = "test_finding_transactions.py"
JOB = ("guarantees/test_g02_stable.py::test_g02_a_job_beside_it_uses_a_session",)
BESIDE = (f"{FINDING}::test_a_del_beside_a_job_that_rolls_back",)
HANDED = (f"{FINDING}::test_a_del_of_one_who_was_handed_the_transaction",)
WENT_ON = (f"{FINDING}::test_a_del_beside_a_session_of_its_own_that_another_went_on_with",)
OWN = "guarantees/test_g03_own_writes.py"
OBJECT = (
    "hard_cases/test_case_02_read_before_the_del.py::test_case_02_orm_object_in_another_thread",
)
TASK = ("test_async.py::test_async_a_del_in_a_task_that_was_handed_the_session",)

MUTANTS = [
    Mutant(
        "what-waits-with-a-jobs-session-hides",
        "loading.py",
        "self._sessions.hides(session, keys) for session in scope.near_sessions()",
        "self._sessions.hides(session, keys) for session in scope.sessions()",
        JOB,
    ),
    Mutant(
        "a-value-is-kept-with-a-jobs-transaction",
        "sessions.py",
        "            if session not in near:\n",
        "            if False:\n",
        JOB,
    ),
    Mutant(
        "a-jobs-object-is-as-good-as-a-row",
        "sessions.py",
        "                if self._may_have_changed(session):\n",
        "                if False:\n",
        OBJECT,
    ),
    Mutant(
        "a-del-is-left-to-a-job",
        "invalidation.py",
        "        carried = bool(near) or any(s in near_sessions for s in waits)\n",
        "        carried = bool(targets) or bool(waiting)\n",
        BESIDE,
    ),
    Mutant(
        "who-executes-in-a-transaction-does-not-work-in-it",
        "watch.py",
        "        transaction.note_user(current_owner())\n",
        "        pass\n",
        HANDED + TASK,
    ),
    Mutant(
        "a-session-is-his-who-used-it-last",
        "scope.py",
        "            self.sessions_here[reference] |= {current_owner()}\n",
        "            self.add_session(session)\n",
        WENT_ON,
    ),
    Mutant(
        "the-sessions-transaction-is-another-ones",
        "scope.py",
        "        transaction.users |= self.sessions_here[reference]\n",
        "",
        HANDED,
    ),
    Mutant(
        "a-session-is-flushed-by-who-said-del-last",
        "sessions.py",
        "            self._owners.setdefault(outermost, set()).add(current_owner())\n",
        "            self._owners[outermost] = {current_owner()}\n",
        (f"{OWN}::test_g03_a_del_of_another_thread_beside_a_session_with_nothing_flushed",),
    ),
    Mutant(
        "a-session-is-flushed-by-another-thread",
        "invalidation.py",
        "    if own or any(transaction.is_used_by(user) for transaction in targets):\n",
        "    if False:\n",
        (f"{OWN}::test_g03_the_session_of_another_thread_is_not_flushed",),
    ),
    Mutant(
        "a-session-is-flushed-beside-a-connection-of-ones-own",
        "invalidation.py",
        "    if own or any(transaction.is_used_by(user) for transaction in targets):\n",
        "    if own:\n",
        (f"{OWN}::test_g03_the_session_of_another_thread_is_not_flushed",),
    ),
    Mutant(
        "what-came-before-a-session-began-is-not-flushed",
        "sessions.py",
        "                self._owners.setdefault(transaction, set()).add(current_owner())\n",
        "",
        (f"{FINDING}::test_read_in_a_session_that_began_after_the_del",),
    ),
    Mutant(
        "a-connection-is-not-lent-to-whom-it-was-handed",
        "transaction.py",
        "        if user in (self.owner, self.last_user):\n",
        "        if user == self.owner:\n",
        (f"{TASK[0]}[sqlite-wal-before-a statement]",),
    ),
]
