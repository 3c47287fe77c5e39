"""Which file an SQLite connection has open: one at the same path may have taken its place."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, TypeAlias

from sqlalchemy import Engine

#: Device and number of a file.
Identity: TypeAlias = tuple[int, int]

#: What tells the files that a connection has open.
DATABASES = "PRAGMA database_list"


def identity_of(path: str | None) -> Identity | None:
    """Return which file is at *path*, None if there is none.  It takes a microsecond."""
    if not path:
        return None
    try:
        found = os.stat(path)
    except OSError:
        return None
    return (found.st_dev, found.st_ino)


def path_of(databases: Sequence[Sequence[Any]], schema: str | None, engine: Engine) -> str | None:
    """Return the path of *schema*, by default the main one, from the rows of `DATABASES`; None if
    there is no such, an empty one if it is no file.

    Asked and not taken from the URL, which may be a URI of SQLite's own.  But where the URL names a
    link that is what each new connection follows.
    """
    schema = (schema or "main").lower()
    path = next((str(row[2]) for row in databases if row[1].lower() == schema), None)
    named = path_in_url(engine)
    if path and named is not None and os.path.realpath(named) == os.path.realpath(path):
        return named
    return path


def path_in_url(engine: Engine) -> str | None:
    """Return the path in the URL of an SQLite database, if it is a path wherever the process is."""
    named = engine.url.database
    if engine.dialect.name != "sqlite" or not named or not os.path.isabs(named):
        return None
    return named
