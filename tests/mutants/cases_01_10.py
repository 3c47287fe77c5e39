"""The protections that the hard cases 1 to 10 are about."""

from .mutant import Mutant

C01 = "hard_cases/test_case_01_rollback_then_the_same_number.py"
C02 = "hard_cases/test_case_02_read_before_the_del.py"
C03 = "hard_cases/test_case_03_reloaded_between_del_and_commit.py"
C04 = "hard_cases/test_case_04_savepoints.py"
C05 = "hard_cases/test_case_05_slow_loader.py"
C06 = "hard_cases/test_case_06_old_snapshot.py"
C07 = "hard_cases/test_case_07_out_of_order.py"
C08 = "hard_cases/test_case_08_first_invalidation_twice.py"
C09 = "hard_cases/test_case_09_opposite_orders.py"
C10 = "hard_cases/test_case_10_pruned_and_born_again.py"
FILES = "interleavings/test_files_and_ledgers.py::test_"

MUTANTS = [
    Mutant(
        "publish-while-dirty",
        "store.py",
        "        if entry.owners:\n            return False\n",
        "",
        (f"{C01}::test_case_01_rolled_back", f"{C02}::test_case_02_changed"),
        core=True,
    ),
    Mutant(
        "publish-what-was-dropped-meanwhile",
        "store.py",
        "self._dropped.get(key, 0) > entry.label for key in entry.keys",
        "False for key in entry.keys",
        (
            f"{C03}::test_case_03_loader_that_outlasts_the_commit",
            f"{C05}::test_case_05_slow_loader",
            f"{C06}::test_case_06_postgresql",
        ),
        core=True,
    ),
    Mutant(
        "publish-below-the-floor",
        "store.py",
        "entry.label < self._floor or any(",
        "any(",
        (f"{C05}::test_case_05_everything_was_dropped_meanwhile",),
        core=True,
    ),
    Mutant(
        "label-after-the-data",
        "load.py",
        "return Entry(self.slot, value, min(self.labels), others",
        "return Entry(self.slot, value, self.manager.store.label, others",
        (f"{C05}::test_case_05_slow_loader", f"{C06}::test_case_06_postgresql"),
        core=True,
    ),
    Mutant(
        "snapshot-of-the-transaction-ignored",
        "load.py",
        "            self.labels.add(label)\n",
        "            pass\n",
        (
            f"{C06}::test_case_06_postgresql",
            f"{C06}::test_case_06_read_transaction_of_sqlite",
            f"{C06}::test_case_06_two_connections_in_one_load",
        ),
        core=True,
    ),
    Mutant(
        "keys-of-inner-values-forgotten",
        "load.py",
        "            self.keys |= entry.keys\n",
        "",
        (f"{C05}::test_case_05_computed_from_another_value",),
        core=True,
    ),
    Mutant(
        "statement-snapshots-everywhere",
        "probe.py",
        "current_setting('transaction_isolation') IN ('read committed', 'read uncommitted')",
        "true",
        (f"{C06}::test_case_06_postgresql",),
        core=True,
    ),
    Mutant(
        "postgresql-not-asked-for-writes",
        "probe.py",
        "return Probe(bool(written), bool(statement_snapshots))",
        "return Probe(transaction.dirty, bool(statement_snapshots))",
        (
            f"{C02}::test_case_02_stored_code_of_postgresql",
            f"{C02}::test_case_02_cursor_of_the_driver",
        ),
        core=True,
    ),
    Mutant(
        "greater-than-last-seen",
        "ledger/postgresql.py",
        '        if running != "{}":\n',
        "        if False:\n",
        (f"{C07}::test_case_07_many_checks_and_commits_between",),
        core=True,
    ),
    Mutant(
        "order-of-generations-on-mariadb",
        "ledger/mariadb.py",
        "        # The lanes are read before the rows: a commit between the two is news next time.\n",
        "        key = self.key_column\n"
        "        log = self.log_name\n"
        "        last = execute(f'SELECT COALESCE(MAX(generation), 0) FROM {log}', ()).rows[0][0]\n"
        "        if position is not None:\n"
        "            found = execute(\n"
        "                self.sql(f'SELECT {key} FROM {log} WHERE generation > ?'),\n"
        "                (position[0],),\n"
        "            ).rows\n"
        "            return News((last, {}), frozenset(from_stored(row[0]) for row in found))\n"
        "        return News((last, {}), complete=False)\n",
        (f"{C07}::test_case_07_many_checks_and_commits_between",),
        core=True,
    ),
    Mutant(
        "one-lane-for-all",
        "ledger/mariadb.py",
        "        statement = self._at_once.get((len(keys), then))\n",
        "        lane = 1\n        statement = self._at_once.get((len(keys), then))\n",
        (
            f"{C08}::test_case_08_first_invalidation_twice",
            f"{C09}::test_case_09_opposite_orders",
        ),
        core=True,
    ),
    Mutant(
        "a-transaction-counts-from-its-begin",
        "watch.py",
        "        idle = self._idle.get(id(dbapi_connection), _NOT_IDLE)\n        if (",
        "        self._note_idle(dbapi_connection)\n"
        "        idle = self._idle.get(id(dbapi_connection), _NOT_IDLE)\n        if (",
        (
            f"{C06}::test_case_06_snapshot_opened_by_a_begin_listener",
            f"{C06}::test_case_06_written_by_a_begin_listener",
        ),
        core=True,
    ),
    Mutant(
        "newest-commit-of-a-lane-taken-for-all",
        "ledger/mariadb.py",
        "            if value != old_value + 1 or written",
        "            if written",
        ("test_ledger_rows.py::test_a_lane_that_is_new",),
        core=True,
    ),
    Mutant(
        "the-commit-before-is-anybodys",
        "ledger/mariadb.py",
        "            if old_value and token_before",
        "            if False and token_before",
        ("test_ledger_rows.py::test_a_lane_that_goes_on_elsewhere",),
    ),
    Mutant(
        "a-lane-that-is-gone-is-no-news",
        "ledger/mariadb.py",
        "        if figure != total:\n",
        "        if False:\n",
        ("test_ledger_rows.py::test_a_lane_that_goes_on_elsewhere",),
    ),
    Mutant(
        "vanished-lane-taken-for-counted",
        "ledger/mariadb.py",
        "written = execute(*self._compound(keys, lane.lane, token)).rowcount > 0\n",
        "written = execute(*self._compound(keys, lane.lane, token)).rowcount >= 0\n",
        ("test_ledger_rows.py::test_lane_that_vanished",),
    ),
    Mutant(
        "a-commit-that-found-no-lane-taken-for-done",
        "writing.py",
        "        transaction.written = not in_transaction(self._dialect, dbapi_connection)\n",
        "        transaction.written = True\n",
        ("test_commit_statement.py::test_a_lane_that_is_gone",),
        core=True,
    ),
    Mutant(
        "commits-without-knowing-whether-it-did",
        "writing.py",
        "        return in_transaction(self._dialect, dbapi_connection) is True\n",
        "        return True\n",
        ("test_commit_statement.py::test_not_where_the_driver_does_not_tell",),
    ),
    Mutant(
        "rows-of-one-commit-under-two-numbers",
        "ledger/mariadb.py",
        "        if len(keys) > ROWS_PER_STATEMENT:  # the first",
        "        if False:  # the first",
        ("test_ledger_rows.py::test_rows_of_one_commit",),
    ),
    Mutant(
        "ledger-locked-on-postgresql",
        "ledger/postgresql.py",
        "        self.insert_rows(execute, keys, position=_OWN",
        '        execute(f"LOCK TABLE {self.log_name} IN EXCLUSIVE MODE", ())\n'
        "        self.insert_rows(execute, keys, position=_OWN",
        (f"{C08}::test_case_08_first_invalidation_twice",),
    ),
    Mutant(
        "prune-of-fewer-rows-than-are-kept",
        "ledger/postgresql.py",
        "COALESCE((SELECT position FROM",
        "NULLIF((SELECT position FROM",
        (f"{C10}::test_case_10_fewer_rows_than_are_kept",),
    ),
    Mutant(
        "own-commit-is-not-looked-for",
        "transaction.py",
        "                view.uncheck()\n",
        "                pass\n",
        (f"{C03}::test_case_03_reloaded", f"{C03}::test_case_03_two_transactions_of_one_request"),
        core=True,
    ),
    Mutant(
        "private-values-survive-a-rollback",
        "transaction.py",
        "        if outcome is Outcome.COMMITTED:\n",
        "        if True:\n",
        (f"{C02}::test_case_02_changed",),
        core=True,
    ),
    Mutant(
        "savepoints-ignored",
        "transaction.py",
        "        self._levels.append(_Level(name, commits=commits))\n\n    def commits",
        "\n    def commits",
        (
            f"{C04}::test_case_04_rolled_back",
            f"{C04}::test_case_04_released_inside_one_rolled_back",
        ),
        core=True,
    ),
    Mutant(
        "released-savepoint-forgotten",
        "transaction.py",
        "            outer.pending |= level.pending\n",
        "",
        (f"{C04}::test_case_04_released",),
    ),
    Mutant(
        "names-of-savepoints-compared-as-written",
        "statements.py",
        '    return (quoted or groups.get("name") or "").lower()\n',
        '    return quoted or groups.get("name") or ""\n',
        (f"{C04}::test_case_04_one_name_in_two_spellings",),
    ),
    Mutant(
        "no-begin-before-a-savepoint-of-sqlite",
        "effects.py",
        '        cursor_execute(self._dialect, lambda: dbapi_connection)("BEGIN", ())\n',
        "",
        (f"{C04}::test_case_04_first_statement_is_a_savepoint",),
    ),
    Mutant(
        "savepoint-that-is-the-transaction",
        "effects.py",
        "            if transaction.commits(name):\n",
        "            if False:\n",
        (f"{C04}::test_case_04_savepoint_is_the_transaction",),
    ),
    Mutant(
        "snapshot-of-the-drivers-cursor",
        "labels.py",
        "if transaction.label is None and self._has_begun(transaction, dbapi_connection):",
        "if False:",
        (
            f"{C06}::test_case_06_snapshot_opened_by_the_drivers_cursor",
            f"{C02}::test_case_02_cursor_of_the_driver_before_any_statement",
        ),
        core=True,
    ),
    Mutant(
        "imported-snapshot",
        "effects.py",
        "            transaction.label = -1  # as old as",
        "            pass  # as old as",
        (f"{C06}::test_case_06_imported_snapshot",),
    ),
    Mutant(
        "replica-ignored",
        "labels.py",
        "        if self._replica or transaction.is_of_the_past:\n            return -1",
        "        if transaction.is_of_the_past:\n            return -1",
        (f"{C06}::test_case_06_replica_is_never_shared",),
        core=True,
    ),
    Mutant(
        "objects-of-sessions-ignored",
        "loading.py",
        "        self._sessions.settle(load)\n",
        "",
        (
            f"{C02}::test_case_02_orm_object_not_flushed",
            f"{C06}::test_case_06_object_loaded_before_at_read_committed",
            f"{C06}::test_case_06_object_of_an_earlier_transaction",
        ),
        core=True,
    ),
    Mutant(
        "side-session-loss-ignored",
        "reader.py",
        "position = self._position if self._side.session == self._session else None",
        "position = self._position",
        (f"{C10}::test_lost_side_connection_drops_everything",),
        core=True,
    ),
    Mutant(
        "session-mark-ignored",
        "ledger/postgresql.py",
        "            session != known_session\n            or anchor_found",
        "            anchor_found",
        (f"{C10}::test_case_10_session_changed_under_the_connection",),
        core=True,
    ),
    Mutant(
        "session-mark-ignored-beside-the-snapshot-alone",
        "ledger/postgresql.py",
        "if snapshot == known and session == known_session else None",
        "if snapshot == known else None",
        (f"{C10}::test_case_10_session_changed_while_nothing_happened",),
    ),
    Mutant(
        "snapshot-alone-not-compared",
        "ledger/postgresql.py",
        "if snapshot == known and session == known_session else None",
        "if session == known_session else None",
        (f"{C07}::test_case_07_after_many_looks_that_found_nothing",),
        core=True,
    ),
    Mutant(
        "everything-dropped-after-the-snapshot-alone",
        "ledger/postgresql.py",
        "        if position is not None and position.calm == CALM:\n",
        "        if False:\n",
        (f"{C07}::test_case_07_after_many_looks_that_found_nothing",),
    ),
    Mutant(
        "snapshot-alone-of-a-standby",
        "ledger/postgresql.py",
        "News(position._replace(calm=calm + 1)) if exact else News(position)",
        "News(position._replace(calm=calm + 1))",
        ("test_standby.py",),
    ),
    Mutant(
        "anchor-that-is-gone-ignored-on-postgresql",
        "ledger/postgresql.py",
        "            return None  # the anchor is gone\n",
        "            return News(position)\n",
        (
            f"{C10}::test_case_10_idle_while_its_row_is_pruned",
            "guarantees/test_g08_bounded.py::test_g08_pruned[postgresql]",
        ),
        core=True,
    ),
    Mutant(
        "anchor-ignored-on-postgresql",
        "ledger/postgresql.py",
        "            or anchor_found != anchor.version\n",
        "",
        (f"{C10}::test_case_10_pruned_below_the_newest_row_known",),
        core=True,
    ),
    Mutant(
        "rows-that-vanished-ignored-on-postgresql",
        "ledger/postgresql.py",
        "            or (head != anchor and head_found != head.version)\n",
        "",
        (f"{FILES}only_the_rows_above_the_horizon_are_restored",),
    ),
    Mutant(
        "a-copy-of-a-row-is-the-row-on-postgresql",
        "ledger/postgresql.py",
        'return f"{row}.token # {row}.xmin::text::bigint"',
        'return f"{row}.token"',
        (
            f"{FILES}a_clone_comes_back",
            f"{FILES}restored_from_a_dump_made_between_two_commits",
            f"{FILES}restored_to_before_a_commit_that_was_not_read",
        ),
        core=True,
    ),
    Mutant(
        "no-row-at-all-and-yet-joined",
        "ledger/postgresql.py",
        "            or head is _NO_ROW\n",
        "",
        (f"{FILES}restored_where_no_row_was_known",),
    ),
    Mutant(
        "no-anchor-and-yet-joined",
        "ledger/postgresql.py",
        "            or (anchor is _NO_ROW and horizon != before)\n",
        "",
        (f"{C10}::test_case_10_pruned_below_the_only_row_known",),
    ),
    Mutant(
        "a-standby-is-taken-for-a-primary",
        "ledger/postgresql.py",
        'kind = "standby." if standby else _PRIMARY',
        "kind = _PRIMARY",
        ("test_standby.py",),
    ),
    Mutant(
        "rows-read-again-while-a-transaction-is-open",
        "ledger/postgresql.py",
        "exact = session.startswith(_PRIMARY) and (newest is None or newest < now)",
        "exact = False",
        ("guarantees/test_g08_bounded.py::test_g08_a_transaction_held_open",),
    ),
    Mutant(
        "numbers-of-another-server-taken-for-ours",
        "ledger/postgresql.py",
        "exact = session.startswith(_PRIMARY) and (newest is None or newest < now)",
        "exact = True",
        (f"{C10}::test_case_10_a_dump_of_a_server_that_was_further",),
    ),
    Mutant(
        "anchor-ignored-on-sqlite",
        "ledger/sqlite.py",
        "or not rows or _Position(*rows[0][:2]) != position:",
        "or not rows:",
        (
            f"{C10}::test_case_10_idle_while_its_row_is_pruned",
            f"{C10}::test_case_10_restored_and_gone_on_to_the_same_number",
        ),
        core=True,
    ),
    Mutant(
        "a-row-is-known-by-its-number-on-sqlite",
        "ledger/sqlite.py",
        "or _Position(*rows[0][:2]) != position:",
        "or rows[0][0] != position.generation:",
        (
            f"{C10}::test_case_10_emptied_and_gone_on_to_the_same_number",
            f"{C10}::test_case_10_restored_and_gone_on_to_the_same_number[sqlite-wal]",
            f"{C10}::test_case_10_restored_and_gone_on_to_the_same_number[sqlite-journal]",
        ),
    ),
    Mutant(
        "gaps-ignored-on-mariadb",
        "ledger/mariadb.py",
        "                if len(found[lane]) != len(wanted) or new[0] < old[0]:\n"
        "                    return None\n",
        "",
        (f"{C10}::test_case_10_pruned_rows_of_a_connection_made_since",),
        core=True,
    ),
    Mutant(
        "replaced-file-ignored",
        "side.py",
        "        if self._connection is not None and self._file == self._file_identity():\n",
        "        if self._connection is not None:\n",
        (f"{C10}::test_case_10_file_replaced",),
    ),
    Mutant(
        "lane-without-its-lock",
        "ledger/mariadb.py",
        "        if not lane.shared_until_commit and self._lock(\n"
        "            execute, self._lock_prefix(execute), new_lane\n"
        "        ):\n",
        "        if not lane.shared_until_commit:\n",
        (f"{C09}::test_case_09_connection_without_a_lane",),
    ),
    Mutant(
        "lane-claimed-in-a-transaction",
        "ledger/mariadb.py",
        '        execute("SET autocommit = 1", ())\n',
        "",
        (f"{C07}::test_case_07_prepared_transaction_holds_up_nobody",),
    ),
    Mutant(
        "without-an-anchor-only-new-rows-count",
        "ledger/postgresql.py",
        "            or (anchor is _NO_ROW and horizon != before)\n",
        "            or (anchor is _NO_ROW and found and horizon != before)\n",
        (f"{C10}::test_case_10_pruned_below_the_only_row_known",),
        core=True,
    ),
]
