"""G7: two keys are never taken for one another."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

from coherent_cache import make_key

from ..databases import Database, sqlite_url
from ..workers import PageText, Worker, metadata, put
from .helpers import settle

#: Names that careless text, a collation or a normal form takes for the same.
ALIKE = [
    "a", "A", "a ", " a", "ä", "a\u0308", "á", "ａ", "", " ", "\0", "\x1b0000", "'", "\\", "']['",
    "x" * 3000, "x" * 3000 + "y", "\ud800", "5",
]  # fmt: skip


def test_g07_names_that_look_alike(worker: Worker, other: Worker) -> None:
    """Each has a value of its own in both workers, and invalidating one invalidates it alone."""
    manager = worker.cache_manager
    keys = [make_key("page", name) for name in ALIKE] + [make_key("page", 5), "page"]
    assert all(one != two for one, two in combinations(keys, 2))
    calls: list[str] = []

    def read(key: str) -> str:
        def retriever() -> str:
            calls.append(key)
            return key

        return other.cache_manager.get(key, retriever)

    settle(worker, other)
    for key in keys:
        assert read(key) == key
    for key in keys:
        calls.clear()
        manager.invalidate(key)
        assert [read(one) for one in keys] == keys
        assert calls == [key]


def test_g07_parts_do_not_run_into_each_other() -> None:
    parts: list[tuple[object, ...]] = [
        ("ab", "c"), ("a", "bc"), ("abc",), (("a", "b"), "c"), (("a",), "b", "c"),
        ("a", "b", "c"), (("a", "b", "c"),), (1, 1), (11,), (1, "1"), (True,), (1,), (1.0,),
        (b"1",), ("1",), ("1,",),
        (("ä", "ö"),), (("ä,ö",),), (("ä'", "ö"),), (("ä','ö",),), ("ä", "ö"), ("ä][ö",),
    ]  # fmt: skip
    keys = [make_key("menu", *part) for part in parts]
    assert len(set(keys)) == len(parts)


def test_g07_two_databases_in_one_process(worker: Worker, tmp_path: Path) -> None:
    """Managers of two databases do not meet, though the keys are the same."""
    second = Worker(Database("sqlite-wal", sqlite_url(tmp_path, "second.db")))
    second.cache_manager.create_table()
    metadata.create_all(second.engine)
    worker.write("Front", "first's")
    second.write("Front", "second's")
    with worker.cache_manager.request(), second.cache_manager.request():
        assert PageText(worker, "Front").text == "first's"
        assert PageText(second, "Front").text == "second's"
    with second.engine.begin() as connection:
        put(connection, "Front", "second's, changed")
    with worker.cache_manager.begin() as connection:
        del PageText(second, "Front").text  # has nothing to do with this transaction
        connection.rollback()
    assert worker.read("Front") == "first's"
    assert second.read("Front") == "second's, changed"
    second.database.dispose()


def test_g07_two_tables_in_one_database(worker: Worker) -> None:
    """So do managers with ledgers of their own."""
    second = Worker(worker.database, table="other_cache")
    second.cache_manager.create_table()
    worker.write("Front", "one")
    assert second.read("Front") == "one"
    calls = PageText.calls
    worker.write("Front", "two")
    assert second.read("Front") == "one"  # nobody told this ledger
    assert PageText.calls == calls
