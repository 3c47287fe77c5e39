"""Protections that the tests of the guarantees watch over."""

from __future__ import annotations

from .mutant import Mutant

G = "guarantees/"
G01 = f"{G}test_g01_strict.py"
G02 = f"{G}test_g02_stable.py"
G03 = f"{G}test_g03_own_writes.py"
G04 = f"{G}test_g04_atomic.py"
G05 = f"{G}test_g05_clean.py"
G06 = f"{G}test_g06_honest_label.py"
G07 = f"{G}test_g07_exact.py"
G08 = f"{G}test_g08_bounded.py"
G09 = f"{G}test_g09_one_load.py"
G10 = f"{G}test_g10_good_neighbour.py"
G11 = f"{G}test_g11_fails_well.py"
RUN = "coherence/test_short_run.py::test_nothing_is_wrong_and_little_is_computed[0-sqlite-wal]"


def _tests(file: str, *names: str) -> tuple[str, ...]:
    return tuple(f"{file}::test_{name}" for name in names)


MUTANTS = [
    # G1
    Mutant(
        "no-check-at-all",
        "core.py",
        '        """Look at the ledger, unless *view* has."""\n        if view.checked:\n',
        '        """Look at the ledger, unless *view* has."""\n        if True:\n',
        _tests(
            G01,
            "g01_another_worker",
            "g01_every_key_of_the_transaction",
            "g01_outside_a_request_each_read_looks",
            "g01_an_invalidation_of_its_own",
        ),
        core=True,
    ),
    Mutant(
        "check-under-way-is-shared",
        "rounds.py",
        "                self.wait_for_turn(mine)\n",
        "                self.wait_for_turn(mine)\n                return\n",
        _tests(G01, "check_under_way_is_not_shared"),
        core=True,
    ),
    Mutant(
        "a-wal-snapshot-is-taken-for-news",
        "access.py",
        '.rows[0][0] != "wal"',
        '.rows[0][0] != ""',
        _tests(G01, "g01_a_temporary_table_locks_nothing", "g01_a_write_that_failed_locks_nothing"),
    ),
    # G2
    Mutant(
        "a-view-keeps-nothing",
        "view.py",
        "        kept = self.values.setdefault(slot, entry)\n",
        "        kept = entry\n",
        (
            *_tests(G02, "g02_others_commit_meanwhile", "g02_memory_is_short"),
            *_tests(
                G02, "g02_a_retriever_that_locks", "g02_a_value_from_a_replica_is_the_requests"
            ),
        ),
    ),
    Mutant(
        "own-values-vanish-at-the-commit",
        "transaction.py",
        "        if outcome is Outcome.COMMITTED:\n",
        "        if False:\n",
        _tests(G02, "g02_what_was_not_invalidated_stays_after_its_own_commit"),
    ),
    Mutant(
        "what-a-retriever-read-and-ended-is-nobodys",
        "loading.py",
        "            # read on a replica, or under a lock.  It stands for this request.\n"
        "            return read.keep(entry)\n",
        "            return entry\n",
        _tests(
            G02,
            "g02_a_retriever_that_locks[postgresql]",
            "g02_a_retriever_that_locks[mariadb]",
        ),
    ),
    Mutant(
        "begin-immediate-counts-as-a-write",
        "watch.py",
        "            transaction.locked = bool(effect.name)\n",
        "            transaction.dirty = bool(effect.name)\n",
        _tests(
            G02,
            "g02_transactions_that_begin_immediate[sqlite-wal-after]",
            "g02_transactions_that_begin_immediate[sqlite-journal-after]",
        ),
    ),
    Mutant(
        "a-view-never-begins-anew",
        "manager.py",
        "            view.begin_anew()",
        "            pass",
        _tests(G02, "g02_reset_metadata_lets_the_view_begin_anew"),
    ),
    # G3
    Mutant(
        "a-del-hides-nothing",
        "transaction.py",
        "        return any(not keys.isdisjoint(level.pending) for level in self._levels)",
        "        return False",
        _tests(G03, "g03_in_the_transaction_and_after_it", "g03_what_depends_on_it"),
        core=True,
    ),
    Mutant(
        "the-view-is-not-told-of-a-del",
        "invalidation.py",
        "            view.forget(keys)\n        if not put.carried:",
        "            pass\n        if not put.carried:",
        _tests(G03, "g03_in_the_transaction_and_after_it"),
    ),
    Mutant(
        "the-first-own-read-is-for-good",
        "transaction.py",
        "if writes != self.writes and self.hides(entry.keys):",
        "if False:",
        _tests(G03, "g03_a_write_after_the_first_own_read", "g03_the_del_comes_first"),
    ),
    Mutant(
        "no-look-after-the-own-commit",
        "transaction.py",
        "                view.uncheck()",
        "                pass",
        _tests(G03, "g03_what_depends_on_it", "g03_a_look_of_another_thread_of_the_request"),
    ),
    Mutant(
        "a-view-forgets-before-it-is-unchecked",
        "transaction.py",
        "                view.uncheck()\n"
        "            if concerned:\n"
        "                view.forget(concerned)\n",
        "                view.forget(concerned)\n                view.uncheck()\n",
        _tests(G03, "g03_read_while_the_view_is_told"),
    ),
    Mutant(
        "a-view-forgets-before-it-is-unchecked-by-a-lone-del",
        "core.py",
        "                view.uncheck()  # first, see `Transaction.restart`\n"
        "                view.forget(frozenset(keys))\n",
        "                view.forget(frozenset(keys))\n                view.uncheck()\n",
        _tests(G03, "g03_read_while_the_view_is_told"),
    ),
    Mutant(
        "a-look-marks-whatever-came-meanwhile",
        "core.py",
        "        view.looked(self.store.label, commits)\n",
        "        view.looked(self.store.label, view.commits)\n",
        _tests(G03, "g03_a_look_of_another_thread_of_the_request"),
        core=True,
    ),
    # G4
    Mutant(
        "a-del-does-not-wait-for-the-commit",
        "invalidation.py",
        "        targets = [t for t in scope.all_transactions(self._core) if _may_take(t)]",
        "        targets: list[Transaction] = []",
        _tests(
            G04,
            "g04_not_before_the_commit[postgresql]",
            "g04_not_before_the_commit[mariadb]",
            "g04_a_rollback_invalidates_nothing[postgresql]",
            "g04_a_commit_that_a_listener_refuses[postgresql]",
            "g04_blocks_inside_each_other[postgresql]",
        ),
        core=True,
    ),
    Mutant(
        "a-savepoint-that-rolls-back-still-invalidates",
        "transaction.py",
        "        del self._levels[index:]\n        self._levels.append(_Level(name, commits=commits))\n",
        "        self._levels[index].values.clear()\n",
        _tests(G04, "g04_savepoints"),
    ),
    Mutant(
        "a-savepoint-that-is-released-forgets",
        "transaction.py",
        "            outer.pending |= level.pending\n",
        "",
        _tests(G04, "g04_savepoints"),
    ),
    Mutant(
        "nothing-is-written-before-a-prepare",
        "writing.py",
        "        if not keys or has_failed(",
        "        if not keys or two_phase or has_failed(",
        _tests(G04, "g04_two_phases[mariadb-commit]"),
    ),
    Mutant(
        "a-ledger-that-cannot-be-written-is-no-error",
        "writing.py",
        "        except (DBAPIError, InvalidationError) as error:\n",
        "        except Exception as error:\n            return\n",
        _tests(G04, "g04_the_invalidations_cannot_be_written[sqlite-wal]"),
    ),
    Mutant(
        "an-engine-is-held-by-its-dialect",
        "watch.py",
        'event.listen(engine, "handle_error", on_error)',
        'event.listen(engine, "handle_error", self._on_error)',
        ("test_bad_days.py::test_engine_goes_with_its_manager",),
    ),
    Mutant(
        "of-two-managers-each-commits",
        "boundaries.py",
        'was_plain and vars(dialect).get("do_commit") is commit\n',
        "True\n",
        ("test_commit_message.py::test_two_managers_commit_as_one",),
    ),
    Mutant(
        "a-commit-without-an-answer-counts-as-undone",
        "watch.py",
        "dbapi_connection, Outcome.UNKNOWN)\n            self._clear",
        "dbapi_connection, Outcome.ROLLED_BACK)\n            self._clear",
        ("test_commit_message.py::test_a_connection_that_is_lost_with_the_commit",),
    ),
    Mutant(
        "threads-of-a-request-lose-each-others-transactions",
        "scope.py",
        "        self.transactions_here.pop(transaction, None)",
        "        kept = {t: None for t in self.transactions_here if t is not transaction}\n"
        "        self.transactions_here = kept",
        _tests(G04, "g04_transactions_of_several_threads_of_a_request"),
    ),
    # G5
    Mutant(
        "what-was-written-is-published",
        "store.py",
        "        if entry.owners:\n            return False\n",
        "",
        (
            *_tests(G05, "g05_seen_by_its_own_transaction_only", "g05_written_as_text"),
            *_tests(G05, "g05_kept_for_the_request_after_its_commit_but_for_nobody_else"),
            *_tests(G05, "g05_a_value_of_a_savepoint_that_rolled_back"),
        ),
    ),
    Mutant(
        "what-depends-on-it-is-published",
        "load.py",
        "        self.owners |= entry.owners\n",
        "",
        _tests(G05, "g05_seen_by_its_own_transaction_only"),
    ),
    # G6
    Mutant(
        "the-label-of-the-transaction-does-not-count",
        "load.py",
        "            self.labels.add(label)\n",
        "            pass\n",
        _tests(
            G06,
            "g06_a_transaction_opened_long_before[postgresql-REPEATABLE READ]",
            "g06_a_transaction_opened_long_before[postgresql-SERIALIZABLE]",
            "g06_a_transaction_opened_long_before[mariadb-REPEATABLE READ]",
            "g06_a_transaction_opened_long_before[sqlite-wal-SERIALIZABLE]",
            "g06_a_snapshot_opened_by_a_statement[mariadb]",
        ),
    ),
    Mutant(
        "an-isolation-level-is-taken-for-something-read",
        "watch.py",
        "            self._note_idle(dbapi_connection)\n            idle =",
        "            idle =",
        _tests(G06, "g06_read_at_an_isolation_level[mariadb-engine-READ COMMITTED]"),
    ),
    Mutant(
        "what-the-drivers-cursor-reads-is-taken-for-ended",
        "watch.py",
        "            and in_transaction(self._dialect, dbapi_connection) is False\n        ):\n            # What",
        "            and not in_transaction(self._dialect, dbapi_connection)\n        ):\n            # What",
        (
            "hard_cases/test_case_06_old_snapshot.py"
            "::test_case_06_snapshot_opened_by_a_begin_listener"
            "[mariadb-after it-the driver's cursor]",
        ),
    ),
    Mutant(
        "the-label-of-what-it-depends-on-does-not-count",
        "load.py",
        "            self.labels.add(entry.label)\n",
        "",
        _tests(G06, "g06_a_transaction_opened_long_before[postgresql-REPEATABLE READ]"),
    ),
    Mutant(
        "an-imported-snapshot-is-taken-for-a-new-one",
        "effects.py",
        "            transaction.label = -1  # as old as the transaction that exported it",
        "            pass",
        _tests(G06, "g06_a_snapshot_of_another_session"),
    ),
    Mutant(
        "a-begin-is-labelled-without-a-look",
        "labels.py",
        "            if self._core.ledger.early_check or begins:\n",
        "            if self._core.ledger.early_check:\n",
        _tests(G06, "g06_what_is_read_in_a_transaction_that_began_by_begin_is_kept"),
    ),
    Mutant(
        "a-snapshot-is-as-new-as-the-first-statement-that-is-seen",
        "labels.py",
        "            transaction.label = transaction.born\n",
        "            transaction.label = self._core.store.label\n",
        (
            "hard_cases/test_case_06_old_snapshot.py::test_case_06_snapshot_opened_by_the_drivers_cursor",
        ),
        core=True,
    ),
    Mutant(
        "what-was-dropped-meanwhile-is-published",
        "store.py",
        "            self._dropped.get(key, 0) > entry.label for key in entry.keys\n",
        "            False for key in entry.keys\n",
        _tests(G06, "g06_invalidated_while_it_was_computed[postgresql]"),
    ),
    # G7
    Mutant(
        "text-without-quotes",
        "keys.py",
        """        return "'" + _UNREADABLE.sub(_readable_escape, part) + "'\"""",
        "        return _UNREADABLE.sub(_readable_escape, part)",
        _tests(G07, "g07_parts_do_not_run_into_each_other"),
    ),
    Mutant(
        "plain-text-without-quotes",
        "keys.py",
        """            return f"'{part}'\"""",
        "            return part",
        _tests(G07, "g07_names_that_look_alike", "g07_parts_do_not_run_into_each_other"),
    ),
    Mutant(
        "a-transaction-carries-the-keys-of-any-manager",
        "scope.py",
        "reversed(list(self.transactions_here)) if t.manager is manager]",
        "reversed(list(self.transactions_here))]",
        _tests(G07, "g07_two_databases_in_one_process"),
    ),
    # G8
    Mutant(
        "written-in-a-rollback-of-two-phases",
        "watch.py",
        "            transaction.written = True\n",
        "",
        ("guarantees/test_g10_good_neighbour.py::test_g10_a_rollback_in_two_phases",),
    ),
    Mutant(
        "what-was-running-is-a-list-for-the-planner",
        "ledger/postgresql.py",
        '            f"WHERE c.lane = 0 AND c.position = running OFFSET 0) c ON true",\n',
        '            f"WHERE c.lane = 0 AND c.position = running) c ON true",\n',
        _tests(G08, "g08_a_transaction_held_open_beside_a_table_without_statistics"),
    ),
    Mutant(
        "entries-without-end",
        "store.py",
        "        while self._count > self._max_entries or (",
        "        while False or (",
        _tests(G08, "g08_entries_least_recently_used_first_out"),
    ),
    Mutant(
        "a-scan-flushes-what-is-in-use",
        "eviction.py",
        "                if entry.uses:\n                    entry.uses = 0\n",
        "                if False:\n                    entry.uses = 0\n",
        ("test_eviction.py::test_a_scan_leaves_what_is_in_use",),
    ),
    Mutant(
        "bytes-without-end",
        "store.py",
        "            self._max_bytes is not None and self._bytes > self._max_bytes\n",
        "            False\n",
        _tests(G08, "g08_bytes"),
    ),
    Mutant(
        "no-floor-under-what-is-remembered",
        "store.py",
        "            _, self._floor = self._dropped.popitem(last=False)",
        "            self._dropped.popitem(last=False)",
        _tests(G08, "g08_what_is_remembered_of_drops[postgresql]"),
    ),
    Mutant(
        "sqlite-reads-the-whole-table",
        "ledger/sqlite.py",
        'f"WHERE generation >= ? ORDER BY generation',
        'f"WHERE generation + 0 * ? > 0 ORDER BY generation',
        _tests(G08, "g08_a_check_costs_what_changed[sqlite-wal]"),
    ),
    Mutant(
        "sqlite-prunes-without-a-floor",
        "ledger/sqlite.py",
        "or not rows or _Position(*rows[0][:2]) != position",
        "or not rows",
        _tests(G08, "g08_pruned[sqlite-wal]"),
    ),
    Mutant(
        "mariadb-prunes-without-a-floor",
        "ledger/mariadb.py",
        "                if len(found[lane]) != len(wanted) or new[0] < old[0]:\n"
        "                    return None\n"
        "                if old[0] and found[lane].get(old[0]) != old[1]:\n"
        "                    return None\n",
        "",
        _tests(G08, "g08_pruned[mariadb]"),
    ),
    # G9
    Mutant(
        "everybody-computes",
        "flights.py",
        "                found is not None\n                and found.label >= wanted\n",
        "                False\n                and found is not None\n                and found.label >= wanted\n",
        _tests(G09, "g09_many_ask_one_computes", "g09_requests_that_ask_at_once"),
    ),
    Mutant(
        "an-older-load-is-good-enough",
        "flights.py",
        "                and found.label >= wanted\n",
        "",
        _tests(G09, "g09_nobody_is_handed_an_older_value[postgresql]"),
    ),
    Mutant(
        "an-exception-is-the-leaders-own",
        "loading.py",
        "        if isinstance(error, Exception):\n",
        "        if False:\n",
        _tests(G09, "g09_an_exception_reaches_those_who_asked"),
    ),
    # G10
    Mutant(
        "a-load-is-done-under-the-stores-lock",
        "loading.py",
        "            value = compute()\n",
        "            with self._store._lock:\n                value = compute()\n",
        _tests(G10, "g10_nothing_waits_for_a_retriever"),
    ),
    Mutant(
        "the-sizer-is-called-under-the-stores-lock",
        "store.py",
        "            entry.size = self._sizer(entry.value) if size is None else size\n",
        "            with self._lock:\n"
        "                entry.size = self._sizer(entry.value) if size is None else size\n",
        _tests(G10, "g10_a_sizer_may_take_its_time"),
    ),
    Mutant(
        "checks-take-a-connection-of-the-pool",
        "side.py",
        "engine.pool.recreate().connect()",
        "engine.pool.connect()",
        _tests(G10, "g10_a_pool_of_one"),
    ),
    Mutant(
        "a-check-waits-for-its-own-transaction",
        "access.py",
        "                    if not own and not transaction.watch.holds_lock(transaction):\n",
        "                    if True:\n",
        _tests(
            G10,
            "check_beside_own_exclusive_transaction[sqlite-journal-its own statement]",
            "check_beside_own_exclusive_transaction[sqlite-journal-a recipe after]",
            "check_beside_own_exclusive_transaction[sqlite-journal-a recipe before]",
            "check_beside_own_reading_transaction",
        ),
    ),
    Mutant(
        "a-begin-before-ours-is-not-seen",
        "watch.py",
        "                transaction = self._begin(pooled)\n"
        "                transaction.beginning = True\n",
        "                return\n",
        _tests(G10, "check_beside_own_exclusive_transaction[sqlite-journal-a recipe before]"),
    ),
    Mutant(
        "a-check-within-starts-over-each-time",
        "reader.py",
        "            self._position = news.position\n            # What",
        "            # What",
        _tests(G10, "g10_transactions_that_lock_keep_what_is_cached"),
    ),
    Mutant(
        "a-lane-is-claimed-in-a-transaction",
        "ledger/mariadb.py",
        '        execute("SET autocommit = 1", ())\n',
        "",
        _tests(
            G10,
            "g10_a_new_connection_waits_for_nobody",
            "g10_a_new_connection_locks_nothing",
        ),
    ),
    # G11
    Mutant(
        "a-check-that-failed-counts",
        "access.py",
        "            reader.check()\n        except DBAPIError as error:\n            self._raise(error)\n",
        "            reader.check()\n        except DBAPIError:\n            pass\n",
        _tests(G11, "g11_a_check_that_fails", "g11_the_table_is_missing"),
    ),
    Mutant(
        "a-connection-that-was-ended-is-an-error",
        "reader.py",
        "                if self._side.session != session or not error.connection_invalidated:\n",
        "                if True:\n",
        _tests(G11, "g11_connections_that_the_server_ends"),
    ),
    Mutant(
        "an-exception-leaves-a-load-behind",
        "flights.py",
        "        self._remove(slot, flight)\n        flight.future.set_exception(error)",
        "        flight.future.set_exception(error)",
        _tests(G09, "g09_an_exception_reaches_those_who_asked"),
    ),
    # Modes
    Mutant(
        "bound-counts-from-the-end-of-a-check",
        "freshness.py",
        "        self._look = begun\n",
        "        self._look = self.begin()\n",
        ("test_freshness.py::test_bounded_counts_from_the_beginning_of_a_check",),
    ),
    Mutant(
        "own-commits-wait-for-the-bound",
        "freshness.py",
        "        self._commits += 1\n",
        "        pass\n",
        ("test_freshness.py::test_bounded_sees_what_this_process_committed",),
    ),
    Mutant(
        "a-closed-manager-vouches-for-the-bound",
        "access.py",
        "        self.last_look.forget()\n        self.pruner.stop()\n",
        "        self.pruner.stop()\n",
        ("test_freshness.py::test_bounded_serves_nothing_after_close",),
    ),
    Mutant(
        "a-commit-is-not-told",
        "listener.py",
        "            line.tell()\n",
        "            pass\n",
        ("test_push.py::test_an_idle_process_becomes_fresh",),
    ),
    Mutant(
        "the-heartbeat-is-left-out",
        "listener.py",
        "                due = now + heartbeat\n",
        "                due = now + 1_000_000\n",
        ("test_push.py::test_a_writer_that_tells_nobody",),
    ),
    Mutant(
        "the-listener-outlives-close",
        "access.py",
        "            self._listener.stop()  # first: its look would open and vouch again\n",
        "            pass\n",
        ("test_push.py::test_close_ends_the_thread",),
    ),
    Mutant(
        "the-listener-keeps-its-manager",
        "listener.py",
        "                args=(line, weakref.ref(self)),\n",
        "                args=(line, lambda: self),\n",
        ("test_push.py::test_a_manager_takes_its_thread_along",),
    ),
    Mutant(
        "the-parents-listener-is-the-childs",
        "access.py",
        "            self._listener.after_fork()\n",
        "            pass\n",
        ("test_push.py::test_fork",),
    ),
    Mutant(
        "the-header-is-read-after-the-statement",
        "reader.py",
        "        self._apply(news, state)\n        if news.keys",
        "        self._apply(news, None)\n        self._seen = self._state()\n        if news.keys",
        (
            "test_shared_memory.py::test_committed_while_a_check_is_under_way",
            "test_one_host.py::test_committed_while_a_check_is_under_way",
        ),
    ),
    Mutant(
        "two-empty-wals-are-one-state",
        "wal_index.py",
        " and frames > 0\n",
        "\n",
        ("test_shared_memory.py::test_a_header_that_names_no_state",),
    ),
    Mutant(
        "shared-memory-of-a-file-that-was-replaced",
        "side.py",
        "index is None or self._file != self._file_identity():",
        "index is None:",
        ("test_shared_memory.py::test_the_file_is_replaced",),
    ),
    Mutant(
        "shared-memory-without-the-lock-on-it",
        "wal_index.py",
        "not address or not _is_locked_by_us(found):",
        "not address:",
        ("test_shared_memory.py::test_a_forked_child_has_no_lock_and_asks",),
    ),
    Mutant(
        "shared-memory-outlives-its-connection",
        "side.py",
        "        index, self._wal_index = self._wal_index, None\n"
        "        if index is not None:\n"
        "            index.close()  # first: what it reads is vouched for by the connection\n",
        "",
        ("test_shared_memory.py::test_a_closed_manager_vouches_for_nothing",),
    ),
    Mutant(
        "a-thread-prunes-sqlite",
        "pruning.py",
        'self._every is None or self._engine.dialect.name == "sqlite":',
        "self._every is None:",
        ("test_pruning.py::test_on_sqlite_no_thread_writes",),
    ),
    Mutant(
        "every-process-prunes-at-once",
        "pruning.py",
        'FileLock(lock_path(self._engine, self._ledger.tables, "prune"), timeout=0)',
        'FileLock(lock_path(self._engine, self._ledger.tables, "other"), timeout=0)',
        ("test_pruning.py::test_one_process_of_a_host_at_a_time",),
    ),
    Mutant(
        "a-request-forgets-what-was-deleted-before-its-sessions",
        "watch.py",
        "        if keys and self.carries(transaction):\n",
        "        if False:\n",
        ("test_finding_transactions.py::test_session_that_was_never_used_before_the_del",),
    ),
    Mutant(
        "a-retried-write-lost-its-del",
        "transaction.py",
        "        if pending and claims and self.scope is not None:\n",
        "        if pending and self.scope is not None:\n",
        ("test_finding_transactions.py::test_session_that_was_never_used_and_rolls_back_first",),
    ),
    Mutant(
        "a-select-that-writes-is-not-noticed-at-the-commit",
        "watch.py",
        "            self._claim_if_written(transaction)\n            return self",
        "            return self",
        ("test_finding_transactions.py::test_session_that_was_never_used_and_writes_by_a_select",),
    ),
    Mutant(
        "a-del-beside-an-open-transaction-forgets-the-others",
        "invalidation.py",
        "True, scope.near_connections(self._core), near_sessions)\n",
        "True, (), ())\n",
        ("test_finding_transactions.py::test_one_that_has_not_begun_beside_an_open_one",),
    ),
    Mutant(
        "read-before-the-first-statement-stays",
        "watch.py",
        "            transaction.invalidate_early(early, views_around(self._core))\n",
        "            transaction.invalidate(early)\n",
        ("test_finding_transactions.py::test_read_between_del_and_the_first_statement",),
    ),
    Mutant(
        "a-request-is-told-of-everything-in-anothers-transaction",
        "invalidation.py",
        "                    transaction.concerns(view, keys)\n",
        "                    transaction.concerns(view)\n",
        ("test_finding_transactions.py::test_a_del_that_reached_anothers_transaction",),
    ),
    Mutant(
        "who-may-hold-a-lock-waits-for-ever",
        "loading.py",
        "    return _PATIENCE if read.chain.may_hold_locks else None\n",
        "    return None\n",
        (
            "guarantees/test_g10_good_neighbour.py::test_g10_a_load_that_waits_behind_a_writer",
            "guarantees/test_g10_good_neighbour.py"
            "::test_g10_a_load_that_waits_behind_a_writer_for_ever",
        ),
    ),
    Mutant(
        "a-request-is-told-of-its-keys-in-anothers-transaction-beside-its-own",
        "invalidation.py",
        "                elif not put.near:\n",
        "                else:\n",
        (
            "test_finding_transactions.py"
            "::test_a_del_that_was_undone_here_and_stays_in_anothers_transaction",
        ),
    ),
    Mutant(
        "a-view-drops-what-is-read-while-anything-is-invalidated",
        "view.py",
        "            if self.changes != changes and self._was_forgotten(changes, entry):\n",
        "            if self.changes != changes:\n",
        (
            "test_finding_transactions.py"
            "::test_a_value_that_is_read_while_another_key_is_invalidated_stays",
        ),
    ),
    Mutant(
        "what-failed-within-is-no-dependency",
        "loading.py",
        "                self._read.parent.absorb_failure(self._load)\n",
        "                pass\n",
        ("hard_cases/test_case_16_nested.py::test_case_16_computed_from_an_inner_failure",),
    ),
    Mutant(
        "what-failed-for-another-is-no-dependency",
        "loading.py",
        "                read.parent.absorb_failure(flight.failed)\n",
        "                pass\n",
        (
            "hard_cases/test_case_16_nested.py"
            "::test_case_16_computed_from_an_inner_failure_of_another_thread",
        ),
    ),
]
