"""A view ends once, for everybody, and only itself."""

from collections.abc import Generator
from contextvars import copy_context

import pytest

from tests.workers import Worker

pytestmark = pytest.mark.on("sqlite-wal")  # the database plays no part in it


def test_an_ended_view_is_gone_from_copies_of_its_context(worker: Worker, other: Worker) -> None:
    """A background task that a request started has a copy of its context: it must not see the
    world of that request for the rest of its life."""
    with worker.cache_manager.request():
        assert [worker.wiki.names for _ in range(3)] == [frozenset()] * 3
        background = copy_context()
    other.write("Front", "Hello")
    assert background.run(lambda: worker.cache_manager.view) is None
    assert background.run(lambda: worker.wiki.names) == {"Front"}


def test_a_view_that_ends_late_leaves_another_request_alone(worker: Worker) -> None:
    """A generator that opened a view is collected, or closed by the server, in the middle of
    somebody else's request."""

    def stream() -> Generator[None]:
        with worker.cache_manager.request():
            yield

    late = stream()
    copy_context().run(next, late)
    with worker.cache_manager.request() as view:
        late.close()
        assert worker.cache_manager.view is view


def test_views_nest(worker: Worker, other: Worker) -> None:
    with worker.cache_manager.request() as outer:
        assert worker.wiki.names == frozenset()
        other.write("Front", "Hello")
        with worker.cache_manager.request():
            assert worker.wiki.names == {"Front"}
        assert worker.cache_manager.view is outer
        assert worker.wiki.names == frozenset()
