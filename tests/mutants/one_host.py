"""Protections of what processes of one host announce to each other."""

from __future__ import annotations

from .mutant import Mutant

ONE_HOST = "test_one_host.py::test_"
S11 = "hard_cases/test_case_11_killed_anywhere.py::test_case_11_"
PREPARED = f"{S11}prepared_announced_and_ended_by_another"

MUTANTS = [
    Mutant(
        "rows-before-the-commit-are-not-announced",
        "writing.py",
        "        self._announce(transaction)\n        if lane.lane",
        "        if lane.lane",
        (f"{ONE_HOST}nothing_is_asked_while_nothing_is_committed[mariadb]",),
        core=True,
    ),
    Mutant(
        "rows-with-the-commit-are-not-announced",
        "writing.py",
        "        self._announce(transaction)\n        try:\n",
        "        try:\n",
        (f"{ONE_HOST}nothing_is_asked_while_nothing_is_committed[postgresql]",),
        core=True,
    ),
    Mutant(
        "rows-with-the-commit-are-announced-after-it",
        "writing.py",
        "        self._announce(transaction)\n        try:\n"
        "            self._send(dbapi_connection, *message)\n",
        "        try:\n            self._send(dbapi_connection, *message)\n"
        "            self._announce(transaction)\n",
        (f"{ONE_HOST}a_writer_is_killed",),
    ),
    Mutant(
        "a-lone-invalidation-is-not-announced",
        "access.py",
        "                    announcement = self._announcements.announce()\n",
        "                    pass\n",
        (f"{ONE_HOST}a_lone_invalidation",),
    ),
    Mutant(
        "announced-before-it-is-known-to-the-database",
        "writing.py",
        "        if ledger.settles_by_rows and self._core.access.announcements is not None:\n"
        "            return False\n",
        "",
        (f"{ONE_HOST}who_is_announced_is_known_to_the_database[mariadb]",),
    ),
    Mutant(
        "a-commit-on-its-way-is-taken-for-ended",
        "announcements.py",
        "            if not are_even(found):\n                return None\n",
        "",
        (f"{ONE_HOST}a_writer_is_killed", f"{ONE_HOST}an_answer_that_was_lost"),
        core=True,
    ),
    Mutant(
        "a-lost-answer-is-taken-for-an-end",
        "transaction.py",
        "            announcement.end(known=outcome is not Outcome.UNKNOWN)\n",
        "            announcement.end(known=True)\n",
        (PREPARED,),
        core=True,
    ),
    Mutant(
        "settled-while-something-is-open",
        "announcements.py",
        "                    if still:\n",
        "                    if False:\n",
        (f"{ONE_HOST}an_answer_that_was_lost", PREPARED),
        core=True,
    ),
    Mutant(
        "settled-while-something-is-prepared",
        "ledger/postgresql.py",
        "        return found | {_PREPARED} if known is None else found & known\n",
        "        return found if known is None else found & known\n",
        (f"{S11}prepared_after_its_slot_was_left",),
    ),
    Mutant(
        "a-slot-that-was-left-is-nobodys-for-good",
        "slots.py",
        "                self._unlock(slot)\n\n    def adopt",
        "                pass\n\n    def adopt",
        (f"{ONE_HOST}slots_of_two_processes",),
    ),
    Mutant(
        "a-slot-is-taken-from-its-owner",
        "slots.py",
        "        except OSError:\n            return False\n        # Its owner",
        "        except OSError:\n            pass\n        # Its owner",
        (f"{ONE_HOST}slots_of_two_processes",),
    ),
    Mutant(
        "who-is-refused-drops-locks",
        "slots.py",
        "            if self._number in _in_use:\n",
        "            if False:\n",
        (f"{ONE_HOST}who_is_refused_drops_no_locks",),
    ),
    Mutant(
        "a-new-file-looks-like-the-old-one",
        "slots.py",
        "                self._slots[FULL] = new_token() << 1\n",
        "                pass\n",
        (f"{ONE_HOST}the_file_is_replaced",),
    ),
    Mutant(
        "nobody-looks-whether-the-file-was-replaced",
        "announcements.py",
        "        if not slots.is_current():\n            self._reopen(slots)\n            return None\n",
        "",
        (f"{ONE_HOST}the_file_is_replaced_by_another_process",),
    ),
    Mutant(
        "a-file-that-is-replaced-in-a-commit",
        "announcements.py",
        "            self._announcements.announce_again(slots, known=known)\n",
        "            pass\n",
        (f"{ONE_HOST}the_file_is_replaced_during_a_commit",),
    ),
    Mutant(
        "a-forked-child-owns-its-parents-slots",
        "announcements.py",
        "        self._slots.forget()\n",
        "",
        (f"{ONE_HOST}a_forked_child_owns_nothing_of_its_parents",),
    ),
    Mutant(
        "an-announcement-that-is-dropped-stays-owned",
        "announcements.py",
        "            self._slots.leave(self._slot)\n\n\nclass",
        "            pass\n\n\nclass",
        (f"{ONE_HOST}an_announcement_that_is_dropped_is_left",),
    ),
    Mutant(
        "no-slot-is-left-and-nobody-is-told",
        "slots.py",
        "                self._slots[FULL] |= 1\n",
        "                pass\n",
        (f"{ONE_HOST}no_slot_is_left",),
    ),
    Mutant(
        "who-announces-nothing-is-never-seen",
        "access.py",
        "            if not self.last_look.will_do():\n                return False\n",
        "            pass\n",
        (f"{ONE_HOST}who_announces_nothing_is_seen_in_time",),
    ),
]
