"""G5: what is computed in a transaction that has written is never seen by anyone else."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from coherent_cache import cached

from ..workers import PageText, Worker, put
from .helpers import elsewhere


class Banner:
    """Computed from another cached value."""

    def __init__(self, env: Worker) -> None:
        self.env = env

    @cached
    def text(self) -> str:
        return f"Welcome: {PageText(self.env, 'Front').text}"


class Change(Exception):  # noqa: N818
    pass


@pytest.mark.parametrize("order", ["before the del", "after the del", "with no del at all"])
@pytest.mark.parametrize("warm", [True, False], ids=["warm", "cold"])
def test_g05_seen_by_its_own_transaction_only(
    worker: Worker, other: Worker, order: str, warm: bool
) -> None:
    other.write("Front", "old")
    if warm:
        assert Banner(worker).text == "Welcome: old"
    seen = []

    def change() -> None:
        with worker.cache_manager.begin() as connection:
            put(connection, "Front", "dirty")
            if order == "after the del":
                del PageText(worker, "Front").text
            seen.append(Banner(worker).text)
            if order == "before the del":
                del PageText(worker, "Front").text
                seen.append(Banner(worker).text)
            if worker.database.kind != "sqlite-journal":
                assert elsewhere(lambda: Banner(worker).text) == "Welcome: old"
            raise Change

    with worker.cache_manager.request():
        with pytest.raises(Change):
            change()
        if order != "with no del at all" or not warm:
            assert seen[-1] == "Welcome: dirty"
        assert Banner(worker).text == "Welcome: old"
        assert PageText(worker, "Front").text == "old"
    assert elsewhere(lambda: Banner(worker).text) == "Welcome: old"
    assert other.read("Front") == "old"


def test_g05_written_as_text(worker: Worker) -> None:
    """A statement that SQLAlchemy knows nothing of."""
    worker.write("Front", "old")
    with worker.cache_manager.begin() as connection:
        connection.execute(text("/* note */ UPDATE page SET text = 'dirty'"))
        assert PageText(worker, "Front").text == "dirty"
        if worker.database.kind != "sqlite-journal":
            assert elsewhere(lambda: worker.read("Front")) == "old"
        connection.rollback()
    assert worker.read("Front") == "old"


def test_g05_kept_for_the_request_after_its_commit_but_for_nobody_else(
    worker: Worker, other: Worker
) -> None:
    """Written and read, committed without a `del`: the request keeps its value; the others never
    get it, since nothing would ever invalidate what came before."""
    with other.engine.begin() as connection:
        put(connection, "Front", "old")
    with worker.cache_manager.request():
        with worker.cache_manager.begin() as connection:
            put(connection, "Front", "mine")
            assert PageText(worker, "Front").text == "mine"
        assert PageText(worker, "Front").text == "mine"
    calls = PageText.calls
    assert worker.read("Front") == "mine"
    assert PageText.calls == calls + 1


def test_g05_a_value_of_a_savepoint_that_rolled_back(worker: Worker) -> None:
    worker.write("Front", "old")
    with worker.cache_manager.request():
        with worker.cache_manager.begin() as connection:
            nested = connection.begin_nested()
            put(connection, "Front", "dirty")
            worker.cache_manager.evict()
            assert PageText(worker, "Front").text == "dirty"
            nested.rollback()
            assert PageText(worker, "Front").text == "old"
        assert PageText(worker, "Front").text == "old"
    assert worker.read("Front") == "old"
