"""A server that loads the application, uses it, and then forks its workers."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
from flask.testing import FlaskClient

from .test_flask import one, two  # noqa: F401  (fixtures)


def in_a_child(function: Callable[[], bytes]) -> bytes:
    """What *function* returns in a forked process."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, function())
        except BaseException as error:
            os.write(writing, repr(error).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as answer:
        found = answer.read()
    os.waitpid(child, 0)
    return found


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_case_12_fork_of_a_preloaded_application(one: FlaskClient, two: FlaskClient) -> None:  # noqa: F811
    """1. The parent serves a request: its manager has connections and values.
    2. A forked worker reads and writes.
    3. The parent goes on with its own connections, and sees what the worker committed."""
    assert one.get("/names").json == []
    assert in_a_child(lambda: one.get("/names").data) == b"[]\n"
    assert b"Front" in in_a_child(lambda: one.post("/add/Front").data)
    assert one.get("/names").json == ["Front"]
    assert one.post("/add/Second").json == [["Front", "Second"]] * 2
    assert in_a_child(lambda: one.get("/names").data) == b'["Front","Second"]\n'
    assert two.get("/names").json == ["Front", "Second"]
