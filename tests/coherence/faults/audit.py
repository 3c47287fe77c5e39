"""Looks at the data all the time, past every cache, and writes down which writes are there.

A worker that was killed in its COMMIT, or whose connection was lost, does not know whether it has
committed, and a checker that waits for a COMMIT to return would ask nothing of the others.  What
has been seen in the database has committed: whoever begins a request after that must see it.
"""

from __future__ import annotations

import threading

from sqlalchemy import Engine, select, union_all
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from ...databases import Database
from ..disturbers import Scene
from ..workloads.tables import item, note

#: How often the data are looked at, in seconds.
_EVERY = 0.03


_NEWEST = union_all(select(item.c.name, item.c.write_id), select(note.c.name, note.c.write_id))


class Audit:
    """Writes down ``found`` for the newest write of each row; not a fault by itself."""

    errors: tuple[str, ...] = ()

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: dict[str, str] = {}
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, scene: Scene) -> None:
        self._scene = scene
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        options = {} if self._database.is_sqlite else {"isolation_level": "AUTOCOMMIT"}
        engine = self._database.engine(poolclass=NullPool, **options)
        while not self._over.is_set():
            try:
                self._look(engine)
            except DBAPIError:  # the server is away; that is somebody else's doing
                self._over.wait(_EVERY)

    def _look(self, engine: Engine) -> None:
        with engine.connect() as connection:
            while not self._over.wait(_EVERY):
                rows = connection.execute(_NEWEST).all()
                connection.rollback()
                for name, write_id in rows:
                    if self._known.get(name) != write_id:
                        self._known[name] = write_id
                        self._scene.did("found", write_id)
