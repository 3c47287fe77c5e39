"""What the manager says of the ledger's tables."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, inspect

from coherent_cache import CacheManager, TableError

from .databases import Database


def test_verify_says_that_a_table_is_missing(database: Database) -> None:
    manager = CacheManager(database.engine())
    with pytest.raises(TableError, match=r"'cache'.*does not exist: create it") as caught:
        manager.verify_table()
    assert caught.value.table == "cache"
    manager.create_table()
    manager.verify_table()


def indexes(engine: Engine) -> set[Any]:
    return {index["name"] for index in inspect(engine).get_indexes("cache")}


@pytest.mark.on("sqlite-wal", "postgresql", "mariadb")
def test_the_index_of_generations_is_made_for_who_asks_for_them(
    database: Database, tmp_path: Path
) -> None:
    engine = database.engine()
    CacheManager(engine).create_table()
    assert ("ix_cache_key_hash" in indexes(engine)) is not database.is_sqlite
    asks = CacheManager(engine, snapshot=str(tmp_path / "snapshot"))
    for _ in range(2):
        asks.create_table()
        assert "ix_cache_key_hash" in indexes(engine)
    CacheManager(engine).create_table()
    assert "ix_cache_key_hash" in indexes(engine)
    asks.invalidate("a")
    found = asks.generation("a")
    asks.invalidate("a")
    assert asks.generation("a") != found


@pytest.mark.on("sqlite-wal")
def test_generations_without_an_index(database: Database) -> None:
    manager = CacheManager(database.engine())
    manager.create_table()
    manager.invalidate("a")
    found = manager.generation("a")
    manager.invalidate("b")
    assert manager.generation("a") == found is not None
    manager.invalidate("a")
    assert manager.generation("a") != found
