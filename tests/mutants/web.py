"""The web integrations, the command line and the migrations."""

from .mutant import Mutant

_WSGI = "web/test_wsgi.py"
_ASGI = "web/test_asgi.py"

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
        "        if _frame.get() is self._frame:\n            _frame.set(self._outer)",
        "        _frame.set(self._outer)",
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
        "            with open_view(found, View(), request=True):",
        "            with open_scope():",
        (
            f"{_ASGI}::test_case_13_streaming_body_sees_one_view",
            f"{_ASGI}::test_requests_in_one_loop_have_their_own_views",
        ),
    ),
    Mutant(
        "asgi-no-scope-of-the-request",
        "asgi.py",
        "            with open_view(found, View(), request=True):",
        "            with open_view(found, View(), request=False):",
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
        "        if _scope.get() is self._scope:\n            _scope.set(self._outer)",
        "        pass",
        (f"{_ASGI}::test_a_server_that_serves_in_one_task",),
    ),
]
