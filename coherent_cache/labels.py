"""How old the data are that a statement is about to read: the label of its snapshot."""

from __future__ import annotations

from typing import Any

from sqlalchemy.engine import Dialect
from sqlalchemy.exc import DBAPIError

from .core import Core
from .drivers import cursor_execute, in_transaction, last_result
from .load import Load
from .points import point
from .transaction import Transaction


class Labels:
    """Labels what is read on the connections of one engine."""

    def __init__(self, core: Core, dialect: Dialect, *, replica: bool) -> None:
        self._core = core
        self._dialect = dialect
        self._replica = replica

    @point(before="snapshot: not labelled", after="snapshot: labelled, not opened")
    def label_snapshot(
        self, transaction: Transaction, dbapi_connection: Any, *, begins: bool = False
    ) -> int:
        """The label of the snapshot that the next statement reads from.

        Taken before the statement: a commit that comes in between makes the data newer than
        the label, which costs a reload; the other way round it would be wrong for good.  So it is
        before a statement that *begins* the transaction too, although that opens no snapshot.  The
        interleaving this guards against: the driver's own cursor opens it after the BEGIN, another
        process commits, the ledger is looked at, and only then a statement is seen.
        (Test: test_case_06_snapshot_opened_by_a_begin_listener.)
        """
        if self._replica or transaction.is_of_the_past:
            return -1  # older than anything: kept for the request, never shared
        if transaction.label is None and self._has_begun(transaction, dbapi_connection):
            # The interleaving this guards against: the driver's own cursor opens the snapshot,
            # another process commits, the ledger is looked at, and only now a statement is seen.
            # (Test: test_case_06_snapshot_opened_by_the_drivers_cursor.)
            transaction.label = transaction.born
            # Where the database does not tell, that cursor may have written as well.
            transaction.dirty |= self._dialect.name not in ("postgresql", "sqlite")
        elif transaction.label is None:
            if self._core.ledger.early_check or begins:
                # The snapshot lives as long as the transaction; looking at the ledger first
                # lets the values read from it be published.
                self._core.check_early()
            transaction.label = self._core.store.label
        elif (
            self._dialect.name == "sqlite"
            and not transaction.keeps_objects
            and not in_transaction(self._dialect, dbapi_connection)
        ):
            return self._core.store.label  # no BEGIN yet: each SELECT has its own snapshot
        return transaction.label

    def confirm_label(
        self, load: Load, transaction: Transaction, connection: Any, label: int
    ) -> int:
        """The label of what *load* is about to read for the first time in *transaction*, whose
        snapshot may be older than *label* says.

        The interleaving this guards against: a SELECT has not ended (somebody goes through its
        rows, or holds its result after the connection was given back to the pool), another process
        commits, the ledger is looked at, and the next SELECT of the connection, whether there was a
        BEGIN or not, has the snapshot of the first.  SQLite tells nobody of it.  So the ledger's
        newest row is read there: it is the one that is known, or the snapshot is older.
        (Tests: test_a_select_beside_one_that_has_not_ended, and after it.)
        """
        if self._dialect.name != "sqlite" or label < 0 or transaction.dirty:
            return label
        if transaction in load.touched:
            return label  # what comes later is no older
        execute = cursor_execute(self._dialect, lambda: connection)
        try:
            return label if self._core.access.shows_what_is_known(execute) else -1
        except DBAPIError:
            return -1

    def _has_begun(self, transaction: Transaction, dbapi_connection: Any) -> bool:
        """Whether something was executed in *transaction* that no event told of."""
        if self._dialect.name in ("postgresql", "sqlite"):
            return bool(in_transaction(self._dialect, dbapi_connection))
        return last_result(dbapi_connection) is not transaction.last_result
