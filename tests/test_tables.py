"""What the manager says of the ledger's tables."""

import pytest

from coherent_cache import CacheManager, TableError

from .databases import Database


def test_verify_says_that_a_table_is_missing(database: Database) -> None:
    manager = CacheManager(database.engine())
    with pytest.raises(TableError, match=r"'cache'.*does not exist: create it") as caught:
        manager.verify_table()
    assert caught.value.table == "cache"
    manager.create_table()
    manager.verify_table()
