"""The web integrations, the command line and the migrations."""

from .mutant import Mutant

_WSGI = "web/test_wsgi.py"
_ASGI = "web/test_asgi.py"
_FLASK = "web/test_flask.py"
_CLI = "test_cli.py"
_MIGRATIONS = "test_migrations.py"

MUTANTS = [
    Mutant(
        "ended-view-lives-in-copied-contexts",
        "scope.py",
        "        self._frame.view = None\n",
        "",
        (
            "web/test_views.py::test_an_ended_view_is_gone_from_copies_of_its_context",
            f"{_WSGI}::test_the_view_ends_with_the_close",
            f"{_ASGI}::test_however_a_request_ends_its_view_ends",
        ),
    ),
    Mutant(
        "late-end-of-a-view-ends-another",
        "scope.py",
        "        if _frame.get() is self._frame:\n",
        "        if True:\n",
        ("web/test_views.py::test_a_view_that_ends_late_leaves_another_request_alone",),
    ),
    # WSGI
    Mutant(
        "wsgi-view-ends-before-the-body",
        "wsgi.py",
        "        if _is_finished(body, environ):\n            request.end()",
        "        request.end()\n        if _is_finished(body, environ):",
        (
            f"{_WSGI}::test_case_13_streaming_body_sees_one_view_until_it_is_closed",
            f"{_WSGI}::test_case_13_streaming_in_another_thread",
        ),
    ),
    Mutant(
        "wsgi-body-outside-the-context",
        "wsgi.py",
        "        return self._request.run(next, self._iterator)",
        "        return next(self._iterator)",
        (
            f"{_WSGI}::test_case_13_streaming_body_sees_one_view_until_it_is_closed",
            f"{_WSGI}::test_the_servers_own_context_is_not_touched",
        ),
    ),
    Mutant(
        "wsgi-close-outside-the-context",
        "wsgi.py",
        "                self._request.run(close)",
        "                close()",
        (
            f"{_WSGI}::test_case_13_streaming_body_sees_one_view_until_it_is_closed",
            f"{_WSGI}::test_case_13_streaming_in_another_thread",
        ),
    ),
    Mutant(
        "wsgi-servers-own-context",
        "wsgi.py",
        "        return self._context.run(function, *args, **kwargs)",
        "        self._view.__enter__()\n        return function(*args, **kwargs)",
        (f"{_WSGI}::test_the_servers_own_context_is_not_touched",),
    ),
    Mutant(
        "wsgi-view-outlives-a-failing-application",
        "wsgi.py",
        "        except BaseException:\n            request.end()\n            raise",
        "        except BaseException:\n            raise",
        (f"{_WSGI}::test_a_failure_anywhere_reaches_the_server_and_ends_the_view",),
    ),
    Mutant(
        "wsgi-view-outlives-a-failing-close",
        "wsgi.py",
        "        finally:\n            self._request.end()",
        "            self._request.end()\n        finally:\n            pass",
        (f"{_WSGI}::test_a_failure_anywhere_reaches_the_server_and_ends_the_view",),
    ),
    Mutant(
        "wsgi-body-never-closed",
        "wsgi.py",
        "must not see its view for ever.\n        self.end()",
        "must not see its view for ever.\n        pass",
        (f"{_WSGI}::test_a_body_that_is_never_closed_leaves_nothing_open",),
    ),
    Mutant(
        "wsgi-body-not-closed-for-the-application",
        "wsgi.py",
        "            if close is not None:",
        "            if False:",
        (
            f"{_WSGI}::test_it_keeps_to_the_protocol",
            f"{_WSGI}::test_a_client_that_goes_closes_the_body_early",
        ),
    ),
    Mutant(
        "wsgi-lists-and-files-are-wrapped",
        "wsgi.py",
        "    if type(body) in (list, tuple):\n        return True\n",
        "    return False\n",
        (f"{_WSGI}::test_a_list_and_the_servers_own_file_go_through_as_they_are",),
    ),
    Mutant(
        "wsgi-files-are-wrapped",
        "wsgi.py",
        "    return isinstance(wrapper, type) and isinstance(body, wrapper)",
        "    return False",
        (f"{_WSGI}::test_a_list_and_the_servers_own_file_go_through_as_they_are",),
    ),
    Mutant(
        "wsgi-view-outlives-a-list",
        "wsgi.py",
        "        if _is_finished(body, environ):\n            request.end()\n",
        "        if _is_finished(body, environ):\n            environ['kept'] = request\n",
        (f"{_WSGI}::test_a_list_and_the_servers_own_file_go_through_as_they_are",),
    ),
    Mutant(
        "wsgi-length-is-lost",
        "wsgi.py",
        'if hasattr(body, "__len__") else',
        "if False else",
        (f"{_WSGI}::test_a_sized_body_keeps_its_length",),
    ),
    # ASGI
    Mutant(
        "asgi-no-view",
        "asgi.py",
        "            with open_request(scope, found.core):",
        "            with open_request(scope):",
        (
            f"{_ASGI}::test_case_13_streaming_body_sees_one_view",
            f"{_ASGI}::test_requests_in_one_loop_have_their_own_views",
        ),
    ),
    Mutant(
        "asgi-no-scope-of-the-request",
        "mounting.py",
        "open_view(self._core, view, request=True)",
        "open_view(self._core, view, request=False)",
        (
            f"{_ASGI}::test_case_14_threads_of_a_pool_share_the_requests_transaction",
            f"{_ASGI}::test_case_14_threads_of_a_pool_that_are_certainly_two",
        ),
    ),
    Mutant(
        "asgi-websocket-has-a-view",
        "asgi.py",
        '        if scope["type"] == "http":',
        '        if scope["type"] in ("http", "websocket"):',
        (f"{_ASGI}::test_a_websocket_reads_what_is_new",),
    ),
    Mutant(
        "asgi-websocket-has-no-scope",
        "asgi.py",
        '        elif scope["type"] == "websocket":',
        "        elif False:",
        (f"{_ASGI}::test_a_websockets_threads_share_its_transaction",),
    ),
    Mutant(
        "asgi-lifespan-has-a-view",
        "asgi.py",
        '        if scope["type"] == "http":',
        '        if scope["type"] != "websocket":',
        (f"{_ASGI}::test_the_lifespan_has_no_view",),
    ),
    Mutant(
        "scope-is-left-behind",
        "scope.py",
        "            _scope.set(self._outer)\n            if",
        "            if",
        (f"{_ASGI}::test_a_server_that_serves_in_one_task",),
    ),
    # Flask
    Mutant(
        "flask-manager-made-at-its-first-use",
        "flask.py",
        "        appcontext_pushed.connect(cache.on_context, app)\n",
        "",
        (f"{_FLASK}::test_the_manager_is_there_before_the_first_session",),
    ),
    Mutant(
        "flask-no-view",
        "flask.py",
        "app.wsgi_app = CacheMiddleware(  # type: ignore[method-assign]\n"
        "            _Serving(app, app.wsgi_app), lambda: cache.manager\n        )",
        "app.wsgi_app = _Serving(app, app.wsgi_app)",
        (f"{_FLASK}::test_case_13_streaming_from_flask",),
    ),
    Mutant(
        "flask-body-has-no-application",
        "flask.py",
        "    return _app_in_context() or _serving.get()",
        "    return _app_in_context()",
        (
            f"{_FLASK}::test_case_13_streaming_from_flask",
            f"{_FLASK}::test_a_stream_without_context_finds_its_own_application",
        ),
    ),
    Mutant(
        "flask-applications-meet",
        "flask.py",
        "        if app is not None:\n            found = app.extensions.get(_NAME)",
        "        if False:\n            found = app.extensions.get(_NAME)",
        (f"{_FLASK}::test_applications_in_one_process_do_not_meet",),
    ),
    Mutant(
        "flask-error-in-the-signal",
        "flask.py",
        "            except CacheError:\n                pass",
        "            except CacheError:\n                raise",
        (f"{_FLASK}::test_a_bind_key_that_is_not_there",),
    ),
    Mutant(
        "flask-db-of-another-application",
        "flask.py",
        "(self._db is None or self._db is registered)",
        "True",
        (f"{_FLASK}::test_a_db_of_another_application",),
    ),
    Mutant(
        "flask-applications-are-kept",
        "flask.py",
        "weakref.WeakSet[AppCache] = weakref.WeakSet()",
        "weakref.WeakSet[AppCache] = set()",
        (f"{_FLASK}::test_an_application_that_goes_takes_its_manager_along",),
    ),
    Mutant(
        "flask-initialised-twice",
        "flask.py",
        "        if _NAME in app.extensions:",
        "        if False:",
        (f"{_FLASK}::test_what_is_missing_is_said",),
    ),
    # The command line
    Mutant(
        "cli-tracebacks",
        "commands.py",
        "        except (CacheError, SQLAlchemyError, filelock.Timeout) as error:",
        "        except () as error:",
        (f"{_CLI}::test_errors_are_one_line", f"{_CLI}::test_urls_that_lead_nowhere"),
    ),
    Mutant(
        "cli-terminal-obeys-keys",
        "commands.py",
        'plain = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)',
        "plain = text",
        (f"{_CLI}::test_what_a_terminal_would_obey_is_not_printed",),
    ),
    Mutant(
        "cli-encoding-lacks-a-character",
        "commands.py",
        'plain.encode(encoding, "backslashreplace")',
        "plain.encode(encoding)",
        (f"{_CLI}::test_keys_with_anything_in_them",),
    ),
    Mutant(
        "cli-makes-a-misspelt-file",
        "cli.py",
        '        and context.info_name != "init"',
        "        and False",
        (f"{_CLI}::test_a_misspelt_file_is_not_made",),
    ),
    Mutant(
        "cli-hides-defects",
        "commands.py",
        "        except (CacheError, SQLAlchemyError, filelock.Timeout) as error:",
        "        except Exception as error:",
        (f"{_CLI}::test_a_defect_is_not_hidden",),
    ),
    Mutant(
        "cli-no-look-at-the-columns",
        "commands.py",
        "        found.verify_table()\n",
        "",
        (f"{_CLI}::test_errors_are_one_line",),
    ),
    Mutant(
        "cli-asynchronous-driver",
        "cli.py",
        "    if engine.dialect.is_async:",
        "    if False:",
        (f"{_CLI}::test_urls_that_lead_nowhere",),
    ),
    # Migrations
    Mutant(
        "migrations-collation-forgotten",
        "migrations.py",
        'LONGTEXT(charset="utf8mb4", collation="utf8mb4_bin")',
        "LONGTEXT()",
        (f"{_MIGRATIONS}::test_the_steps_in_a_revision_of_their_own",),
    ),
    Mutant(
        "migrations-all-rows-in-the-index-of-marks",
        "migrations.py",
        '{"sqlite_where": text("lane = -1")}',
        "{}",
        (f"{_MIGRATIONS}::test_it_creates_and_removes_the_tables",),
    ),
    Mutant(
        "all-rows-in-the-index-of-marks",
        "schema.py",
        ', sqlite_where=text("lane = -1")',
        "",
        (
            "test_pruning.py::test_on_sqlite_it_costs_a_transaction_the_same_in_a_long_table",
            f"{_MIGRATIONS}::test_autogenerate_writes_the_tables_and_then_finds_no_difference",
        ),
    ),
    Mutant(
        "migrations-index-forgotten",
        "migrations.py",
        'for columns, options in ((["lane", "position"], of_marks), (["key_hash"], {})):',
        'for columns, options in ((["key_hash"], {}),):',
        (
            f"{_MIGRATIONS}::test_it_creates_and_removes_the_tables",
            f"{_MIGRATIONS}::test_it_adds_what_an_interrupted_migration_left_out",
        ),
    ),
    Mutant(
        "migrations-take-any-table-over",
        "migrations.py",
        "    if missing:\n",
        "    if False:\n",
        (f"{_MIGRATIONS}::test_another_programs_table_is_left_alone",),
    ),
    Mutant(
        "migrations-make-what-is-there",
        "migrations.py",
        "    if not inspector.has_table(table, schema=schema):\n        return False\n",
        "    return False\n",
        (f"{_MIGRATIONS}::test_it_takes_over_the_tables_of_create_table",),
    ),
]
