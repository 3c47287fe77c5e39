"""Fixtures: a filled wiki in this process, and servers on each database."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import pytest
from flask import Flask
from jinja2 import FileSystemBytecodeCache
from sqlalchemy import URL

from example_app import create_app
from example_app.models import db
from example_app.seed import prepare
from example_app.topics import articles

from ..databases import create_database, drop_database
from .person import Person, through
from .serving import Server, serve

_compiled = tempfile.TemporaryDirectory()
_templates = FileSystemBytecodeCache(_compiled.name)

#: The topics of this Python, and what the example brings along itself.
PAGES = len(dict(articles(topics))) + 4
KINDS = ["sqlite", "postgresql", "mariadb"]


@pytest.fixture(autouse=True)
def _own_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An instance folder with a database that was just filled."""
    folder = tmp_path_factory.mktemp("filled")
    app = make_app(folder)
    assert prepare(app)
    close(app)
    return folder


@pytest.fixture
def app(filled: Path, tmp_path: Path) -> Iterator[Flask]:
    """A wiki of its own for each test, filled."""
    shutil.copy(filled / "wiki.sqlite", tmp_path / "wiki.sqlite")
    app = make_app(tmp_path)
    yield app
    close(app)


@pytest.fixture
def person(app: Flask) -> Person:
    return through(app.test_client(use_cookies=False))


@pytest.fixture
def other(app: Flask) -> Person:
    """A second person at the same wiki."""
    return through(app.test_client(use_cookies=False))


@pytest.fixture(scope="module")
def own_database(service: Callable[[str], URL]) -> Iterator[Callable[[str], URL | None]]:
    """Returns an empty database of this module's own; None stands for a SQLite file."""
    made: list[tuple[str, URL]] = []

    def make(kind: str) -> URL | None:
        if kind == "sqlite":
            return None
        service(kind)  # skips, or fails where it is required
        url = create_database(kind)
        made.append((kind, url))
        return url

    yield make
    for kind, url in made:
        drop_database(kind, url)


#: Tests of one server stay together where tests run in parallel: it is started once.
SERVERS = {
    kind: pytest.param(kind, marks=pytest.mark.xdist_group(f"example-{kind}")) for kind in KINDS
}


@pytest.fixture(scope="module", params=SERVERS.values())
def server(
    request: pytest.FixtureRequest, own_database: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """Four workers, on each kind of database."""
    url = own_database(request.param)
    with serve(tmp_path_factory.mktemp(request.param), url) as running:
        yield running


def make_app(folder: Path, **config: Any) -> Flask:
    app = create_app({"INSTANCE_PATH": str(folder), "TESTING": True, **config})
    app.jinja_env.bytecode_cache = _templates  # compiled once, not once a test
    return app


def close(app: Flask) -> None:
    with app.app_context():
        db.session.remove()
        db.engine.dispose()
        app.extensions["coherent_cache"].manager.close()
