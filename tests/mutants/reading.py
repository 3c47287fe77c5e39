"""The protections of the short ways that a read may take."""

from .mutant import Mutant

GETTERS = "test_getters.py"
FIRST = "test_first_read.py"
COMPILED = "test_compiled.py"
QUIET = "test_quiet_checks.py"


def _written_out(name: str, old: str, test: str, new: str = "") -> list[Mutant]:
    """What `getters.known` guards, in the form of it that is written out for a keyed attribute."""
    return [
        Mutant(
            f"the-short-way-written-out-with-{name}",
            "getters.py",
            old,
            new,
            (f"{FIRST}::test_{test}",),
        )
    ]


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
        "        if manager.core is not core:\n            return UNKNOWN\n",
        "",
        (f"{GETTERS}::test_managers_are_told_apart",),
    ),
    *_written_out(
        "an-own-rule",
        "                        resolve._resolver is not None\n                        or (instance",
        "the_applications_own_rule",
        "                        (instance",
    ),
    *_written_out(
        "another-manager",
        "                        or (instance if owner is None else owner).cache_manager.core is not core\n",
        "instances_of_two_managers",
    ),
    *_written_out(
        "another-class",
        "        if items and type(instance) is learned[0] and",
        "classes_in_turn",
        "        if items and",
    ),
    *_written_out(
        "a-transaction",
        "            if view.calm is core.unrest:\n",
        "after_a_del_in_a_transaction",
        "            if True:\n",
    ),
    *_written_out(
        "an-invalidation-meanwhile",
        "                    if view.changes != changes:\n"
        "                        value = view.check_kept(slot, found, changes).value\n",
        "invalidated_while_it_is_taken_over",
        "",
    ),
    *_written_out(
        "what-is-in-no-store",
        "                if found.queue:\n",
        "a_slot_that_was_not_told",
        "                if True:\n",
    ),
    *_written_out(
        "a-variant-of-another-class",
        ".variant is not slot.variant\n",
        "classes_in_turn",
        " is None\n",
    ),
    Mutant(
        "an-unchecked-view-is-calm",
        "loading.py",
        " or not view.checked:\n",
        ":\n",
        (f"{FIRST}::test_a_commit_while_the_view_looks",),
        core=True,
    ),
    Mutant(
        "placed-although-it-was-dropped-meanwhile",
        "store.py",
        "        if not entry.queue:\n            entry.place = slot.entry = None\n",
        "",
        (f"{FIRST}::test_dropped_while_it_is_placed",),
    ),
    Mutant(
        "what-left-the-store-stays-with-its-slot",
        "store.py",
        'out of the maps."""\n        _displace(entry)\n',
        'out of the maps."""\n',
        (f"{FIRST}::test_what_leaves_is_not_kept",),
    ),
    Mutant(
        "what-was-cleared-stays-with-its-slot",
        "store.py",
        "                entry.queue = 0\n                _displace(entry)\n",
        "                entry.queue = 0\n",
        (f"{FIRST}::test_what_leaves_is_not_kept",),
    ),
    Mutant(
        "what-was-cleared-is-in-a-queue",
        "store.py",
        "                entry.queue = 0\n                _displace(entry)\n",
        "                _displace(entry)\n",
        (f"{FIRST}::test_a_slot_that_was_not_told",),
    ),
    Mutant(
        "entries-hold-slots-that-nobody-finds",
        "descriptors.py",
        "                    entry.place = None\n",
        "                    pass\n",
        (f"{FIRST}::test_slots_that_nobody_finds_are_not_kept",),
    ),
    Mutant(
        "a-second-manager-is-not-told-of",
        "resolve.py",
        "    _cores.append(weakref.ref(core))\n",
        "    _cores[:] = [weakref.ref(core)]\n",
        (f"{FIRST}::test_the_only_manager",),
    ),
    Mutant(
        "a-rule-is-not-told-of",
        "resolve.py",
        "    _resolver = resolver\n    _tell_the_first()\n",
        "    _resolver = resolver\n",
        (f"{FIRST}::test_the_only_manager",),
    ),
    Mutant(
        "a-second-manager-at-the-same-time",
        "resolve.py",
        "        if not _is_only():\n            first.is_only = False\n",
        "",
        (f"{FIRST}::test_two_first_managers_at_once",),
    ),
    Mutant(
        "a-transaction-that-hides-is-not-told-of",
        "transaction.py",
        "        if keys:\n            self.manager.stir()\n",
        "",
        (f"{FIRST}::test_after_a_del_in_a_transaction",),
    ),
    Mutant(
        "a-private-value-is-not-told-of",
        "transaction.py",
        "(entry, self.writes)\n        self.manager.stir()\n",
        "(entry, self.writes)\n",
        (f"{FIRST}::test_a_private_value_beside_one_of_the_store",),
    ),
    Mutant(
        "what-waits-with-a-session-is-not-told-of",
        "sessions.py",
        "        self._core.stir()\n        # Asked",
        "        # Asked",
        (f"{FIRST}::test_after_a_del_that_waits_with_a_session",),
    ),
    Mutant(
        "what-waited-for-a-session-is-not-told-of",
        "sessions.py",
        ".update(early)\n                self._core.stir()\n",
        ".update(early)\n",
        (f"{FIRST}::test_after_a_del_before_the_session_began",),
    ),
    Mutant(
        "a-transaction-that-comes-is-not-told-of",
        "scope.py",
        "            transaction.manager.stir()\n",
        "            pass\n",
        (f"{FIRST}::test_a_transaction_that_hides_comes_into_a_scope",),
    ),
    Mutant(
        "store-takes-variants-for-one-another",
        "store.py",
        "            if found.variant is slot.variant:\n",
        "            if True:\n",
        ("test_eviction.py::test_variants_of_a_key",),
    ),
    Mutant(
        "compiled-hit-by-equal-part",
        "_hit.c",
        "        PyTuple_GET_ITEM(item, 0) == now) {",
        "        PyObject_RichCompareBool(PyTuple_GET_ITEM(item, 0), now, Py_EQ) == 1) {",
        (f"{COMPILED}::test_the_same_tests_pass",),
    ),
    Mutant(
        "compiled-hit-takes-an-interruption-for-a-miss",
        "_hit.c",
        " && PyErr_ExceptionMatches(PyExc_Exception)) {",
        ") {",
        (f"{COMPILED}::test_the_same_tests_pass",),
    ),
    Mutant(
        "compiled-hit-leaves-its-error-behind",
        "_hit.c",
        "            PyErr_Clear(); /*",
        "            /*",
        (f"{COMPILED}::test_the_same_tests_pass",),
    ),
    Mutant(
        "compiled-hit-keeps-what-it-gave",
        "_hit.c",
        "        Py_XDECREF(item);\n",
        "",
        (f"{COMPILED}::test_the_same_tests_pass",),
    ),
    Mutant(
        "compiled-hit-in-a-dictionary-that-goes",
        "_hit.c",
        "        Py_INCREF(items); /* a __hash__ or __eq__ may empty the memo meanwhile */\n"
        "        item = Py_XNewRef(PyDict_GetItemWithError(items, instance));\n"
        "        Py_DECREF(items);\n",
        "        item = Py_XNewRef(PyDict_GetItemWithError(items, instance));\n",
        (f"{COMPILED}::test_the_same_tests_pass",),
    ),
    Mutant(
        "prepared-under-a-number",
        "libpq.py",
        '        name = f"coherent_cache_{digest}".encode()\n',
        '        name = f"coherent_cache_{len(self._names)}".encode()\n',
        ("test_libpq.py::test_two_clients_of_one_session",),
    ),
    Mutant(
        "asked-and-left-with-the-answer-on-its-way",
        "libpq.py",
        "            if libpq.transaction_status == _ACTIVE:\n",
        "            if False:\n",
        ("test_libpq.py::test_interrupted_while_it_asks",),
    ),
    Mutant(
        "a-short-way-in-a-transaction",
        "libpq.py",
        "        if name is None or self._libpq.transaction_status != _IDLE:\n",
        "        if name is None:\n",
        ("test_libpq.py::test_not_in_a_transaction",),
    ),
    Mutant(
        "prepared-where-the-application-forbids-it",
        "libpq.py",
        '    if getattr(dbapi_connection, "prepare_threshold", None) is None:\n',
        "    if False:\n",
        ("test_libpq.py::test_nothing_is_prepared_where_the_application_forbids_it",),
    ),
    Mutant(
        "the-version-is-newer-than-the-rows",
        "reader.py",
        "        news = self._ledger.read(self._side.run, position)\n        self._apply",
        "        news = self._ledger.read(self._side.run, position)\n"
        "        version = self._side.version() if version is not None else None\n"
        "        self._apply",
        (f"{QUIET}::test_committed_while_a_check_is_under_way",),
        core=True,
    ),
    Mutant(
        "the-version-of-any-connection",
        "reader.py",
        "version == self._version and position is not None:",
        "version == self._version:",
        (f"{QUIET}::test_the_version_of_another_connection",),
    ),
    Mutant(
        "the-version-of-another-file",
        "ledger/sqlite.py",
        '        self.version = f"PRAGMA {of}data_version"\n',
        '        self.version = "PRAGMA main.data_version"\n',
        (f"{QUIET}::test_a_ledger_in_an_attached_file",),
    ),
    Mutant(
        "the-version-is-asked-for-where-others-commit",
        "reader.py",
        "None not in (version, self._version)",
        "False",
        (f"{QUIET}::test_where_others_commit_rows_are_asked_for_at_once",),
    ),
]
