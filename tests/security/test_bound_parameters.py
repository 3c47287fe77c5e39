"""Keys reach the database as parameters only, and names of tables are quoted."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy import event, inspect, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.schema import CreateSchema, DropSchema

from coherent_cache import CacheManager, ConfigurationError, make_key
from coherent_cache.drivers import Result, cursor_execute
from coherent_cache.errors import CacheError
from coherent_cache.side import SideConnection

from ..databases import Database
from ..workers import Worker

MARK = "N0TINSQL"
KEYS = [
    f"{MARK}{odd}{MARK}"
    for odd in [
        "'",
        '"',
        "`",
        "%",
        "%s",
        "%(x)s",
        ":name",
        "?",
        "$1",
        "\x00",
        "\\",
        "--",
        "/*",
        ";",
    ]
] + [make_key(MARK, "'; DROP TABLE cache; --", ("\\", "%s"))]
NAMES = [
    'a"b',
    "a'b",
    "a`b",
    "a b",
    "a%b",
    "a%%sb",
    "a:b",
    "a;--",
    "a\\b",
    "select",
    "Ä",
    "a]b",
    "A",
]


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every statement the library sends past SQLAlchemy's events, as it is written."""
    sent: list[str] = []
    original = cursor_execute
    run = SideConnection.run

    def recording(dialect: Any, connect: Any) -> Any:
        execute = original(dialect, connect)

        def run(statement: str, parameters: Sequence[Any]) -> Result:
            sent.append(statement)
            return execute(statement, parameters)

        return run

    def recorded(self: SideConnection, statement: str, parameters: Any) -> Result:
        sent.append(statement)
        return run(self, statement, parameters)

    # Wherever it was imported to: none may be missed.
    for name, module in list(sys.modules.items()):
        if name.startswith("coherent_cache.") and hasattr(module, "cursor_execute"):
            monkeypatch.setattr(module, "cursor_execute", recording)
    monkeypatch.setattr(SideConnection, "run", recorded)
    return sent


def test_no_statement_holds_a_key(statements: list[str], database: Database) -> None:
    """Of checks, invalidations in a transaction and by themselves, figures and pruning."""
    worker = Worker(database)
    manager = worker.cache_manager
    manager.create_table()
    other = Worker(database)

    def on_execute(_: Any, __: Any, statement: str, *___: Any) -> None:
        statements.append(statement)

    event.listen(worker.engine, "before_cursor_execute", on_execute)
    for turn in range(2):
        for key in KEYS:
            assert other.cache_manager.get(key, lambda turn=turn: turn) == turn  # type: ignore[misc]
        with manager.begin() as connection:
            connection.execute(text("SELECT 1"))
            for key in KEYS[::2]:
                manager.invalidate(key)
        for key in KEYS[1::2]:
            manager.invalidate(key)
    for key in KEYS:
        assert other.cache_manager.get(key, lambda: 2) == 2
    assert manager.status().keys == len(KEYS)
    manager.prune(keep=1)
    assert len([s for s in statements if "INSERT" in s]) > 2
    assert len([s for s in statements if "SELECT" in s]) > 2
    assert not [s for s in statements if MARK in s]


@pytest.mark.parametrize("name", NAMES)
def test_a_table_of_any_name(database: Database, name: str) -> None:
    """It works under that very name, or is refused before anything is made."""
    before = set(inspect(database.engine()).get_table_names())
    manager = CacheManager(database.engine(), table=name)
    try:
        manager.create_table()
    except (CacheError, SQLAlchemyError):
        assert set(inspect(database.engine()).get_table_names()) == before
        return
    assert set(inspect(database.engine()).get_table_names()) - before == {name, f"{name}_lane"}
    other = CacheManager(database.engine(), table=name)
    for turn in range(3):
        assert other.get("key", lambda turn=turn: turn) == turn  # type: ignore[misc]
        with manager.begin():
            manager.invalidate("key")
        manager.invalidate("another")
    assert manager.status().keys == 2
    manager.prune(keep=1)
    for each in (manager, other):
        each.close()
    manager.metadata.drop_all(manager.engine)


@pytest.mark.on("postgresql")
@pytest.mark.parametrize("name", NAMES)
def test_a_schema_of_any_name(database: Database, name: str) -> None:
    engine = database.engine()
    with engine.begin() as connection:
        connection.execute(CreateSchema(name))
    try:
        manager = CacheManager(engine, schema=name)
        manager.create_table()
        manager.invalidate("key")
        assert manager.status().rows == 1
        manager.close()
    finally:
        with engine.begin() as connection:
            connection.execute(DropSchema(name, cascade=True))


@pytest.mark.on("sqlite-memory")
@pytest.mark.parametrize("name", ["", "a\x00b", "\ud800"])
def test_what_is_no_name(database: Database, name: str) -> None:
    for options in ({"table": name}, {"schema": name}):
        with pytest.raises(ConfigurationError, match="of the name"):
            CacheManager(database.engine(), **options)  # type: ignore[arg-type]
