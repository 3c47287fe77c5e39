"""Snapshots."""

from __future__ import annotations

from .mutant import Mutant

RESTART = "snapshot/test_restart.py::test_"
PROCESSES = "snapshot/test_processes.py::test_"
DAMAGE = "snapshot/test_damage.py::test_"

MUTANTS = [
    Mutant(
        "saved-without-another-look",
        "snapshot/saving.py",
        "        return [entry for entry in entries if self._store.holds(entry)], generations",
        "        return entries, generations",
        (f"{RESTART}a_commit_before_the_generations_are_read",),
        core=True,
    ),
    Mutant(
        "looked-at-before-the-generations-are-read",
        "snapshot/saving.py",
        "        generations = self._generations(keys | keys_of(old), transactions)",
        "        self._core.access.check(transactions)\n"
        "        generations = self._generations(keys | keys_of(old), transactions)\n"
        "        return [entry for entry in entries if self._store.holds(entry)], generations",
        (f"{RESTART}a_commit_before_the_generations_are_read",),
    ),
    Mutant(
        "taken-back-under-a-later-label",
        "snapshot/restoring.py",
        "        generations = self._generations(records, transactions)\n",
        "        generations = self._generations(records, transactions)\n"
        "        label = self._store.label\n",
        (f"{RESTART}a_commit_while_values_are_taken_back",),
        core=True,
    ),
    Mutant(
        "taken-back-whatever-it-depends-on",
        "snapshot/records.py",
        "generations.get(key) == generation for key",
        "True for key",
        (f"{RESTART}what_was_invalidated_meanwhile",),
    ),
    Mutant(
        "decoded-under-the-label-of-its-end",
        "snapshot/restoring.py",
        "Entry(slot, value, waiting.label, ",
        "Entry(slot, value, self._store.label, ",
        (f"{RESTART}dropped_while_it_is_decoded",),
    ),
    Mutant(
        "a-del-does-not-hide-what-the-snapshot-has",
        "loading.py",
        "        if found is None or self._hides(read.scope, found.keys):\n"
        "            return None\n"
        "        read.view.counted += 1\n"
        "        return read.keep(found)\n\n    def _accept",
        "        if found is None:\n"
        "            return None\n"
        "        read.view.counted += 1\n"
        "        return read.keep(found)\n\n    def _accept",
        (f"{RESTART}hidden_by_a_del",),
    ),
    Mutant(
        "evicting-leaves-what-waits",
        "store.py",
        " or isinstance(entry.variant, Waiting):",
        ":",
        (f"{RESTART}evicted_while_it_waits",),
    ),
    Mutant(
        "a-saving-undoes-those-of-others",
        "snapshot/saving.py",
        "        theirs = [record for record in old if record.slot not in mine]",
        "        theirs = [record for record in old if record.slot in mine]",
        (f"{RESTART}an_idle_worker_takes_nothing_away",),
    ),
    Mutant(
        "a-file-that-was-replaced-meanwhile-is-not-read-again",
        "snapshot/saving.py",
        "            if self._file.stamp() != stamp:  # others",
        "            if self._file.stamp() is None:  # others",
        (f"{RESTART}another_saves_meanwhile",),
    ),
    Mutant(
        "what-was-pruned-is-saved-under-its-old-generation",
        "snapshot/saving.py",
        "        return Record(entry.key, variant, generations[entry.key], others, data)",
        "        if isinstance(entry.variant, Waiting):\n"
        "            return entry.value\n"
        "        return Record(entry.key, variant, generations[entry.key], others, data)",
        (f"{RESTART}waiting_values_are_saved_again",),
    ),
    Mutant(
        "a-forked-child-waits-for-its-parents-thread",
        "snapshot/keeper.py",
        "        self._saver.saved = self._saver.not_saved = 0\n        self._begin()\n",
        "        self._saver.saved = self._saver.not_saved = 0\n",
        (f"{PROCESSES}a_forked_child",),
    ),
    Mutant(
        "a-snapshot-is-written-in-place",
        "snapshot/file.py",
        '        beside = self.path + ".new"\n',
        "        beside = self.path\n",
        (f"{PROCESSES}killed_while_it_saves",),
    ),
    Mutant(
        "a-file-that-others-may-write-to",
        "snapshot/file.py",
        "            if found.st_mode & 0o022:",
        "            if found.st_mode & 0o1000000:",
        (f"{DAMAGE}ignored_with_one_warning_and_replaced",),
    ),
]
