"""What protects hard cases 11 to 20, bad input and bad days."""

from __future__ import annotations

from .mutant import Mutant

_CASES = "hard_cases/"
_11 = _CASES + "test_case_11_killed_anywhere.py::test_case_11_"
_12 = _CASES + "test_case_12_fork.py::test_case_12_"
_14 = _CASES + "test_case_14_threads_of_a_pool.py::test_case_14_"
_15 = _CASES + "test_case_15_names.py::test_case_15_"
_16 = _CASES + "test_case_16_nested.py::test_case_16_"
_17 = _CASES + "test_case_17_keys.py::test_case_17_"
_18 = _CASES + "test_case_18_locking_reads.py::test_case_18_"
_19 = _CASES + "test_case_19_autocommit.py::test_case_19_"
_20 = _CASES + "test_case_20_same_commit_twice.py::test_case_20_"

MUTANTS = [
    Mutant(
        "two-phase-not-written-at-prepare",
        "watch.py",
        "        self._writer.write(transaction, pooled, two_phase=True)\n"
        "        transaction.prepared = True\n\n",
        "        transaction.prepared = True\n\n",
        (_11 + "two_phase_in_one_session", _11 + "prepared_here_and_ended_by_another"),
        core=True,
    ),
    Mutant(
        "lost-answer-taken-for-rollback",
        "boundaries.py",
        "told.after_end(transaction, dbapi_connection, Outcome.UNKNOWN)\n            raise",
        "told.after_end(transaction, dbapi_connection, Outcome.ROLLED_BACK)\n            raise",
        (_11 + "answer_to_commit_is_lost",),
        core=True,
    ),
    Mutant(
        "scope-survives-fork",
        "scope.py",
        "    _scope.set(None)\n    _frame.set(None)\n",
        "",
        (_12 + "open_transaction", _12 + "view"),
        core=True,
    ),
    Mutant(
        "load-survives-fork",
        "load.py",
        "    current_load.set(None)\n",
        "    pass\n",
        (_12 + "inside_a_retriever",),
    ),
    Mutant(
        "store-lock-survives-fork",
        "store.py",
        "        self._lock = threading.RLock()\n        self._to_drop = []\n",
        "        self._to_drop = []\n",
        (
            "schedules/test_cases_11_to_15.py::test_case_12_fork_while_another_thread_stands"
            "[sqlite-wal-store: in the middle of a change]",
        ),
    ),
    Mutant(
        "overridden-attribute-not-invalidated",
        "descriptors.py",
        "            overridden = overridden or found is self\n",
        "",
        (_15 + "super", _15 + "keyed_super"),
    ),
    Mutant(
        "one-value-for-all-classes-of-a-name",
        "descriptors.py",
        "        kept = self.last[0]\n        if kept[2]",
        "        return globals().setdefault('_FOR_ALL', _Slots(kind))\n"
        "        kept = self.last[0]\n        if kept[2]",
        (_15 + "two_classes_of_one_name", _15 + "inherited_with_another_helper"),
    ),
    Mutant(
        "function-attributes-overwrite-ours",
        "descriptors.py",
        "functools.update_wrapper(self, retriever, updated=())",
        "functools.update_wrapper(self, retriever)",
        (_15 + "attributes_of_the_function",),
    ),
    Mutant(
        "connection-that-was-given-back-counts",
        "load.py",
        "any(transaction.is_open for transaction in self._transactions)",
        "bool(self._transactions)",
        (_16 + "pool_of_one_between_two_connections",),
    ),
    Mutant(
        "holder-of-the-connection-waits",
        "flights.py",
        "        if holds_connection and not flight.chain.holds_connection:\n"
        "            return False\n",
        "",
        (_16 + "pool_of_one",),
    ),
    Mutant(
        "idle-connection-not-lent",
        "blocks.py",
        "return found or self._idle_connection()",
        "return found",
        (_16 + "pool_of_one_through_everything",),
    ),
    Mutant(
        "no-recursion-check",
        "load.py",
        "            raise RecursiveRetrieverError(path[::-1])\n",
        "            pass\n",
        (_16 + "itself",),
    ),
    Mutant(
        "older-load-is-joined",
        "flights.py",
        "                and found.label >= wanted\n",
        "",
        (_16 + "newer_view_does_not_take_the_older_value",),
        core=True,
    ),
    Mutant(
        "everybody-loads",
        "flights.py",
        "                found is not None\n",
        "                False and found is not None\n",
        (_16 + "one_load", "test_async.py::test_async_one_load"),
    ),
    Mutant(
        "dependencies-forgotten",
        "load.py",
        "            self.keys |= entry.keys\n",
        "",
        (_16 + "dependents_are_dropped", _16 + "dependent_was_read_from_the_view"),
    ),
    Mutant(
        "quotes-not-escaped",
        "keys.py",
        'return "\'" + _UNREADABLE.sub(_readable_escape, part) + "\'"',
        'return "\'" + part + "\'"',
        (_17 + "parts_do_not_run_together",),
        core=True,
    ),
    Mutant(
        "bool-is-int",
        "keys.py",
        '        return "True" if part else "False"\n',
        "        return int.__repr__(part)\n",
        (_17 + "end_to_end[sqlite-memory]",),
    ),
    Mutant(
        "stored-text-not-escaped",
        "keys.py",
        "return _UNSTORABLE.sub(_stored_escape, key)",
        "return key",
        (_17 + "stored_text",),
    ),
    Mutant(
        "comment-as-in-standard-sql",
        "statements.py",
        "(_QUOTED_MARIADB if is_mariadb else _QUOTED)",
        "_QUOTED",
        (_18 + "hidden_in_text",),
    ),
    Mutant(
        "session-in-autocommit-waits-for-its-commit",
        "invalidation.py",
        "[session for session in sessions if not self._commits_by_itself(session)]",
        "list(sessions)",
        (_19 + "session",),
    ),
    Mutant(
        "autocommit-by-the-driver-only",
        "drivers.py",
        "return bool(autocommit) and not in_transaction(dialect, dbapi_connection)",
        "return bool(autocommit)",
        (_19 + "recipe_for_sqlite",),
    ),
    Mutant(
        "own-commit-counts-as-a-look",
        "transaction.py",
        "                view.uncheck()",
        "                pass",
        (_20 + "in_one_request", _20 + "old_value_loaded_by_another_thread"),
    ),
    Mutant(
        "silent-end-forgets-the-keys",
        "effects.py",
        "        transaction.restart(Outcome.UNKNOWN)\n        transaction.invalidate(keys)\n"
        "        transaction.changes_before",
        "        transaction.restart(Outcome.UNKNOWN)\n        transaction.changes_before",
        ("test_bad_days.py::test_statement_that_begins_no_transaction[mariadb-0]",
         "test_bad_days.py::test_statement_that_begins_no_transaction[mariadb-1]"),
    ),
    Mutant(
        "failed-commit-not-rolled-back",
        "watch.py",
        "            self._clear(pooled)\n",
        "",
        ("test_bad_days.py::test_failed_commit_leaves_nothing_behind",),
    ),
    Mutant(
        "finalizer-holds-the-pool",
        "side.py",
        "weakref.finalize(self, dbapi_connection.close)",
        "weakref.finalize(self, lambda engine=self._engine: dbapi_connection.close())",
        ("test_bad_days.py::test_manager_takes_its_connections_along",),
    ),
    Mutant(
        "ddl-makes-clean",
        "effects.py",
        "        transaction.invalidate((*keys, *late))\n        transaction.dirty = True\n",
        "",
        ("test_bad_days.py::test_mariadb_statement_that_may_commit",),
    ),
    Mutant(
        "driver-errors-not-wrapped",
        "side.py",
        "    with driver_errors(engine.dialect):\n        pooled = ",
        "    if True:\n        pooled = ",
        ("test_bad_days.py::test_database_gone_and_back",),
    ),
    Mutant(
        "lane-table-made-next-to-a-foreign-table",
        "tables.py",
        "        _verify(engine, [t for t in (tables.log, tables.lanes) if _exists(engine, t)])\n",
        "",
        ("test_bad_input.py::test_table_of_another_program[mariadb]",),
    ),
    Mutant(
        "plain-code-waits-in-an-event-loop",
        "loading.py",
        "        self._core.access.require_greenlet()\n",
        "",
        ("test_async.py::test_async_sync_attribute_beside_a_load_of_it[postgresql]",),
    ),
]  # fmt: skip
