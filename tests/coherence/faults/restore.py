"""The database is restored from an older dump while the workers run.

SQLite by its backup API, in place; on the others one transaction sets every table back, data and
ledger together.  (Another file in the place of SQLite's is another matter: whoever has the old one
open goes on writing to it.)
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

from sqlalchemy import Connection, MetaData, Table
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from ...databases import Database
from ..anomaly import Anomaly
from ..history import Event, Part
from .restored import Restored
from .stage import Stage
from .striking import Striking


class Restore(Striking):
    """Makes a dump, lets the workers go on, and sets the database back to it; once."""

    def __init__(self, database: Database) -> None:
        super().__init__(0.3)
        self._database = database
        self.done: Restored | None = None

    def strike(self) -> None:
        if self.done is not None:
            return
        restore = self._in_place if self._database.is_sqlite else self._by_rows
        restore()
        self.scene.did("restored")

    def _in_place(self) -> None:
        file = str(self._database.url.database)
        with (
            closing(sqlite3.connect(f"{file}.dump")) as dump,
            closing(sqlite3.connect(file, timeout=20)) as live,
        ):
            live.backup(dump)
            kept = [
                row
                for table in ("item", "note")
                for row in dump.execute(f"SELECT name, version, write_id FROM {table}")
            ]
            recorded = [row[0] for row in dump.execute("SELECT write_id FROM record")]
            self.rest(0.4)
            self.scene.did("restore")
            began = time.monotonic_ns()
            dump.backup(live)
            self.done = Restored(began, time.monotonic_ns(), _parts(kept), recorded)

    def _by_rows(self) -> None:
        engine = self._database.engine(poolclass=NullPool, isolation_level="REPEATABLE READ")
        tables = MetaData()
        tables.reflect(engine)
        with engine.connect() as connection:
            kept = {table: _rows(connection, table) for table in tables.sorted_tables}
        self.rest(0.4)
        self.scene.did("restore")
        began = time.monotonic_ns()
        while not self._set_back(kept):
            pass
        shown = [
            (row["name"], row["version"], row["write_id"])
            for table in ("item", "note")
            for row in kept[tables.tables[table]]
        ]
        recorded = [row["write_id"] for row in kept[tables.tables["record"]]]
        self.done = Restored(
            began,
            time.monotonic_ns(),
            _parts(shown),
            recorded,
            forgives=self._database.kind != "postgresql",
        )

    def _set_back(self, kept: dict[Table, list[dict[str, Any]]]) -> bool:
        """Let the tables hold *kept*; return whether that went well."""
        engine = self._database.engine(poolclass=NullPool)
        try:
            with engine.begin() as connection:
                if engine.dialect.name == "postgresql":
                    # What each writer writes first, so that he comes to his end; readers are not
                    # in the way.
                    connection.exec_driver_sql("LOCK TABLE record IN SHARE ROW EXCLUSIVE MODE")
                    names = ", ".join(map(engine.dialect.identifier_preparer.format_table, kept))
                    connection.exec_driver_sql(f"LOCK TABLE {names} IN SHARE ROW EXCLUSIVE MODE")
                for table, rows in kept.items():
                    connection.execute(table.delete())
                    if rows:
                        connection.execute(table.insert(), rows)
        except DBAPIError:
            return False  # a deadlock with those who write
        return True


def _rows(connection: Connection, table: Table) -> list[dict[str, Any]]:
    return [dict(row) for row in connection.execute(table.select()).mappings()]


def _parts(rows: Iterable[Any]) -> dict[str, Part]:
    return {row[0]: Part(*row) for row in rows}


@contextmanager
def restore(stage: Stage) -> Iterator[None]:
    disturber = Restore(stage.database)
    stage.disturbers.append(disturber)

    def judge(events: Sequence[Event], record: Collection[str]) -> list[Anomaly]:
        assert disturber.done is not None, "the run was too short for a restore"
        return disturber.done.judge(events, record)

    stage.judge = judge
    yield
