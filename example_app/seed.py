"""Creates the tables and fills them at the first start, whoever else is starting too.

Two starts may race, on one machine or on two with one database. Creating tables is
repeated when another was faster; the content is one transaction that begins with the row
of settings: of two, the second waits at its unique key and then leaves things be. A start
that is killed halfway leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pydoc_data.topics import topics

from flask import Flask
from sqlalchemy import select
from sqlalchemy.exc import DBAPIError

from . import edits
from .markup import link_text
from .models import Site, db
from .seed_pages import NAVIGATION_GROUPS, PAGES, SETTINGS, WELCOME, WELCOME_GROUPS
from .topics import articles, names_by_topic
from .wiki import NAVIGATION, wiki

Progress = Callable[[int, int], None]
_ATTEMPTS = 5


def prepare(app: Flask, progress: Progress = lambda done, total: None) -> bool:
    """Make the database ready; returns whether it was filled just now."""
    with app.app_context():
        _create_tables(app)
        filled = _fill(progress)
        db.session.remove()
    return filled


def _create_tables(app: Flask) -> None:
    if db.engine.dialect.name == "sqlite":
        with (
            db.engine.connect() as connection
        ):  # readers and the one writer do not wait for each other
            connection.exec_driver_sql("PRAGMA journal_mode=WAL")
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            db.create_all()
            break
        except DBAPIError:  # another start created one of the tables after we had looked
            if attempt == _ATTEMPTS:
                raise
    app.extensions["coherent_cache"].manager.create_table()


def _fill(progress: Progress) -> bool:
    """Fill the tables if they are empty; another start may be doing the same."""
    for _ in range(_ATTEMPTS):
        filled = db.session.scalar(select(Site.id)) is not None
        db.session.rollback()
        if filled:
            return False
        try:
            with edits.unit_of_work():
                _write(progress)
        except edits.EditConflictError:
            continue  # another start was faster, or both were stopped by the database
        return True
    raise RuntimeError("The wiki could not be filled: other starts were in the way every time.")


def _write(progress: Progress) -> None:
    db.session.add(Site(id=1, **SETTINGS))
    db.session.flush()
    del wiki.settings
    pages = _pages()
    for done, (name, text) in enumerate(pages, 1):
        edits.create(name, text)
        progress(done, len(pages))


def _pages() -> list[tuple[str, str]]:
    names = names_by_topic(topics)
    groups = "\n\n".join(_group(title, keys, names) for title, keys in WELCOME_GROUPS.items())
    navigation = "\n\n".join(
        _group(title, keys, names) for title, keys in NAVIGATION_GROUPS.items()
    )
    return [
        *articles(topics),
        *PAGES.items(),
        (SETTINGS["front_page"], WELCOME.format(groups=groups)),
        (NAVIGATION, navigation + "\n"),
    ]


def _group(title: str, keys: str, names: Mapping[str, str]) -> str:
    """Write a heading and a list; a key is a topic, or the name of a page as it is."""
    lines = [_entry(key, names) for key in keys.split("; ") if key in names or key in PAGES]
    return f"## {title}\n\n" + "\n".join(lines)


def _entry(key: str, names: Mapping[str, str]) -> str:
    name = names.get(key, key)
    return f"* {link_text(name, name.split(' — ')[0])}"
