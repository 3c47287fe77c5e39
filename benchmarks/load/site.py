"""A small application, without a framework: 200 pages, three cached values a request.

Each page shows the settings, the names of all pages and its own text, and says its version.  There
is no template engine and no session, so that what is measured is the way to the data.
"""

from __future__ import annotations

import json
import os
from typing import Any

from sqlalchemy import (
    Column,
    Engine,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    create_engine,
    event,
    insert,
    make_url,
    select,
    update,
)
from sqlalchemy.orm import scoped_session, sessionmaker

from coherent_cache import CacheManager, cached

from . import variants

_PAGES = 200
_TEXT = "A sentence of a text that is long enough to be one. " * 40

metadata = MetaData()
page = Table(
    "page",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(80), nullable=False, unique=True),
    Column("version", Integer, nullable=False),
    Column("state", String(40), nullable=False),
    Column("text", Text, nullable=False),
)
settings = Table(
    "settings",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("title", String(80), nullable=False),
)


def engine_options(url: Any) -> dict[str, Any]:
    """Options of the engines of a load: short waits for locks, so that nothing hangs for long."""
    found: dict[str, Any] = {"pool_size": 4, "max_overflow": 0}
    kind = url.get_backend_name()
    if kind == "postgresql":
        found["connect_args"] = {"options": "-c lock_timeout=3s"}
    elif kind == "mysql":
        found["connect_args"] = {
            "ssl_disabled": True,
            "init_command": "SET SESSION innodb_lock_wait_timeout = 3",
        }
    else:
        found["connect_args"] = {"timeout": 3}
    return found


def make_engine() -> Engine:
    """The engine of a worker."""
    url = make_url(os.environ["LOAD_DATABASE"])
    engine = create_engine(url, **engine_options(url))
    if engine.dialect.name == "sqlite":

        @event.listens_for(engine, "connect")
        def configure(connection: Any, record: Any) -> None:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")

    return engine


class Site:
    """The application of one worker."""

    def __init__(self) -> None:
        self.engine = make_engine()
        self.session = scoped_session(sessionmaker(self.engine))
        self.library = Library(self)
        self.cache_manager: CacheManager | None = None
        self.variant = variants.switch(self.session, self.engine, (Library, Page))
        if self.variant is None:
            self.cache_manager = CacheManager(
                self.engine,
                tier=variants.region(),
                freshness=variants.freshness(self.engine.dialect.name),
            )

    def begin_request(self) -> None:
        """A request begins in this thread."""
        if self.variant is not None:
            self.variant.begin_request()

    def end_request(self) -> None:
        """It ends."""
        self.session.remove()

    def show(self, name: str) -> str:
        """The page called *name*, or a KeyError."""
        title = self.library.title
        names = self.library.names
        if name not in names:
            raise KeyError(name)
        version, state, text = Page(self, name).content
        around = " ".join(sorted(names)[:20])
        return f"<h1>{title}: {name}</h1>{around}<p>Version {version}, {state}</p><p>{text}</p>"

    def edit(self, name: str) -> str:
        """Change a page; its new version."""
        version = self._change(name, "published")
        self.session.commit()
        return str(version)

    def abort(self, name: str) -> str:
        """Change a page, show what it would look like, and leave it as it was."""
        self._change(name, "never-committed")
        shown = self.show(name)
        self.session.rollback()
        return shown

    def _change(self, name: str, state: str) -> int:
        self.session.execute(
            update(page).where(page.c.name == name).values(version=page.c.version + 1, state=state)
        )
        changed = Page(self, name)
        del changed.content
        return int(self.session.scalar(select(page.c.version).where(page.c.name == name)) or 0)


class Library:
    """The whole of it."""

    def __init__(self, env: Site) -> None:
        self.env = env

    @cached
    def title(self) -> str:
        """The title of all pages."""
        return str(self.env.session.scalar(select(settings.c.title)))

    @cached
    def names(self) -> frozenset[str]:
        """The names of the pages."""
        return frozenset(self.env.session.scalars(select(page.c.name)))


class Page:
    """One page."""

    def __init__(self, env: Site, name: str) -> None:
        self.env = env
        self.name = name

    @cached("name")
    def content(self) -> tuple[int, str, str]:
        """Version, state and text."""
        found = self.env.session.execute(
            select(page.c.version, page.c.state, page.c.text).where(page.c.name == self.name)
        ).one()
        return (found.version, found.state, found.text)


def prepare() -> list[str]:
    """Create and fill the tables; the names of the pages."""
    engine = make_engine()
    metadata.create_all(engine)
    names = [f"page-{number}" for number in range(_PAGES)]
    with engine.begin() as connection:
        connection.execute(insert(settings).values(id=1, title="A site"))
        rows = [{"name": n, "version": 1, "state": "published", "text": _TEXT} for n in names]
        connection.execute(insert(page), rows)
    if variants.chosen() in variants.OURS:
        CacheManager(engine).create_table()
    elif variants.chosen() == "trac.cache":
        from .trac_cache import create_table

        create_table(engine)
    return names


if __name__ == "__main__":
    print(json.dumps(prepare()))
