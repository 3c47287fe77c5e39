"""Fixtures of the schedules."""

from __future__ import annotations

import pytest

from coherent_cache.ledger.mariadb import MariaDBLedger


@pytest.fixture
def two_statements(monkeypatch: pytest.MonkeyPatch) -> None:
    """A MariaDB server is written to as MySQL is: a moment lies between its two statements."""
    monkeypatch.setattr(MariaDBLedger, "_in_one_statement", lambda self: False)
