"""Fixtures of the schedules."""

from __future__ import annotations

import pytest

from coherent_cache.ledger.mariadb import MariaDBLedger
from coherent_cache.writing import LedgerWriter


@pytest.fixture
def two_statements(monkeypatch: pytest.MonkeyPatch) -> None:
    """A MariaDB server is written to as MySQL is: a moment lies between its two statements."""
    monkeypatch.setattr(MariaDBLedger, "_in_one_statement", lambda self: False)


@pytest.fixture(autouse=True)
def rows_before_the_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are written before the COMMIT on PostgreSQL too, as with every driver but psycopg, so
    that a moment lies between the two."""
    monkeypatch.setattr(LedgerWriter, "commit_with", lambda *_: False)
