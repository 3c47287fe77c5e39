"""The Flask extension, with Flask-SQLAlchemy and with an engine."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, stream_with_context
from flask.testing import FlaskClient
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import String, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from coherent_cache import CacheManager, ConfigurationError, MissingManagerError, cached
from coherent_cache.flask import CoherentCache
from tests.databases import Database

only_python = pytest.mark.on("sqlite-wal")  # the database plays no part in it


class Base(DeclarativeBase):
    pass


db = SQLAlchemy(model_class=Base)
cache = CoherentCache()


class Page(db.Model):  # type: ignore[name-defined, misc]
    __tablename__ = "page"
    name: Mapped[str] = mapped_column(String(100), primary_key=True)
    text: Mapped[str] = mapped_column(String(1000))


class Wiki:
    """A component with no manager of its own: the extension supplies it."""

    @cached
    def names(self) -> tuple[str, ...]:
        with cache.manager.connect() as connection:
            return tuple(connection.scalars(select(Page.name).order_by(Page.name)))


wiki = Wiki()


def create_app(database: Database, **config: Any) -> Flask:
    """An application as its factory makes it; each is a process of its own to the library."""
    app = Flask("wiki")
    app.config["SQLALCHEMY_DATABASE_URI"] = database.url
    app.config.update(config)
    db.init_app(app)
    cache.init_app(app, db)

    @app.get("/names")
    def names() -> list[str]:
        return list(wiki.names)

    @app.post("/add/<name>")
    def add(name: str) -> list[Any]:
        db.session.add(Page(name=name, text=""))
        del wiki.names
        own = list(wiki.names)
        db.session.commit()
        return [own, list(wiki.names)]

    @app.post("/add-and-roll-back/<name>")
    def add_and_roll_back(name: str) -> list[Any]:
        db.session.add(Page(name=name, text=""))
        db.session.flush()
        del wiki.names
        own = list(wiki.names)
        db.session.rollback()
        return [own, list(wiki.names)]

    @app.post("/add-and-fail/<name>")
    def add_and_fail(name: str) -> str:
        db.session.add(Page(name=name, text=""))
        db.session.flush()
        del wiki.names
        assert name in wiki.names
        raise RuntimeError("the view function failed")

    @app.post("/add-and-forget/<name>")
    def add_and_forget(name: str) -> list[str]:
        """No commit: Flask-SQLAlchemy rolls back at the request's end."""
        db.session.add(Page(name=name, text=""))
        db.session.flush()
        del wiki.names
        return list(wiki.names)

    @app.get("/stream")
    def stream() -> Any:
        def body() -> Iterator[str]:
            for _ in range(3):
                yield f"{','.join(wiki.names)};"

        return app.response_class(body())

    @app.get("/stream-with-context")
    def stream_in_context() -> Any:
        def body() -> Iterator[str]:
            for _ in range(3):
                rows = db.session.scalars(select(Page.name)).all()
                yield f"{','.join(wiki.names)}/{len(rows)};"

        return app.response_class(stream_with_context(body()))

    with app.app_context():
        cache.manager.create_table()
        db.create_all()
    return app


@pytest.fixture
def one(database: Database) -> Iterator[FlaskClient]:
    yield from client_of(create_app(database))


@pytest.fixture
def two(database: Database, one: FlaskClient) -> Iterator[FlaskClient]:
    yield from client_of(create_app(database))


def client_of(app: Flask) -> Iterator[FlaskClient]:
    yield app.test_client()
    close(app)


def close(app: Flask) -> None:
    app.extensions["coherent_cache"].manager.close()
    with app.app_context():
        for engine in db.engines.values():
            engine.dispose()


# db.session


def test_a_commit_of_the_session_reaches_every_application(
    one: FlaskClient, two: FlaskClient
) -> None:
    assert two.get("/names").json == []
    assert one.post("/add/Front").json == [["Front"], ["Front"]]
    assert two.get("/names").json == ["Front"]
    assert two.post("/add/Second").json == [["Front", "Second"]] * 2
    assert one.get("/names").json == ["Front", "Second"]


@pytest.mark.parametrize("way", ["add-and-roll-back", "add-and-forget", "add-and-fail"])
def test_a_rollback_of_the_session_leaves_nothing(
    one: FlaskClient, two: FlaskClient, way: str
) -> None:
    assert one.get("/names").json == two.get("/names").json == []
    answer = one.post(f"/{way}/Front")
    expected = {"add-and-roll-back": [["Front"], []], "add-and-forget": ["Front"]}
    assert answer.json == expected.get(way) if way in expected else answer.status_code == 500
    assert one.get("/names").json == two.get("/names").json == []
    status = one.application.extensions["coherent_cache"].manager.status()
    assert status.rows == 0


def test_a_script_in_an_application_context(one: FlaskClient, two: FlaskClient) -> None:
    """No request, no view: each read looks at the ledger."""
    with one.application.app_context():
        assert wiki.names == ()
        assert two.post("/add/Front").status_code == 200
        assert wiki.names == ("Front",)
        db.session.add(Page(name="Second", text=""))
        del wiki.names
        assert two.get("/names").json == ["Front"]
        db.session.commit()
        assert two.get("/names").json == ["Front", "Second"]


# Streaming


@pytest.mark.parametrize("path", ["/stream", "/stream-with-context"])
def test_case_13_streaming_from_flask(one: FlaskClient, two: FlaskClient, path: str) -> None:
    """The body reads cached attributes after the view function returned, and after Flask has
    popped its contexts: it is still the request of its application, and sees its view."""
    blocks = one.get(path, buffered=False).iter_encoded()
    first = next(blocks)
    assert first.startswith((b";", b"/0;"))
    two.post("/add/Front")
    rest = b"".join(blocks)
    assert rest == b";;" if path == "/stream" else rest.count(b"Front") == 0
    assert one.get("/names").json == ["Front"]


# Applications and their managers


def test_applications_in_one_process_do_not_meet(
    database: Database, tmp_path: Path, one: FlaskClient
) -> None:
    """Each has a database of its own, the attributes and their keys are the same."""
    elsewhere = Database("sqlite-wal", database.url.set(drivername="sqlite", database="unused"))
    elsewhere.url = elsewhere.url.create("sqlite", database=str(tmp_path / "elsewhere.db"))
    app = create_app(elsewhere)
    other = app.test_client()
    assert one.post("/add/Front").status_code == 200
    assert other.get("/names").json == []
    assert one.get("/names").json == ["Front"]
    with app.app_context():
        manager = cache.manager
        with one.application.app_context():
            assert cache.manager is not manager
            assert wiki.names == ("Front",)
        assert wiki.names == ()
    close(app)


@only_python
def test_a_stream_without_context_finds_its_own_application(
    database: Database, tmp_path: Path, one: FlaskClient
) -> None:
    """Also if the server iterates it next to another application's."""
    app = create_app(Database("", database.url.set(database=str(tmp_path / "elsewhere.db"))))
    one.post("/add/Front")
    first = one.get("/stream", buffered=False).iter_encoded()
    second = app.test_client().get("/stream", buffered=False).iter_encoded()
    for _ in range(3):
        assert (next(first), next(second)) == (b"Front;", b";")
    close(app)


@only_python
def test_the_manager_is_there_before_the_first_session(database: Database) -> None:
    """`del` is the first that a process hears of the cache, in a session that has begun: it must
    wait for the session's commit.  (In a process of its own: another application's manager
    would know the session too.)"""
    app = create_app(database)
    client = app.test_client()
    assert client.get("/names").json == []
    code = "from tests.web.test_flask import write_first_of_all; write_first_of_all()"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(database.url.database)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as writer:
        assert writer.stdin is not None
        assert writer.stdout is not None
        assert writer.stdout.readline() == "deleted\n"
        assert client.get("/names").json == []
        writer.stdin.write("commit\n")
        writer.stdin.flush()
        assert writer.stdout.readline() == "committed\n"
    assert client.get("/names").json == ["Front"]
    close(app)


def write_first_of_all() -> None:
    """The other process of the test above."""
    app = Flask("wiki")
    app.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{sys.argv[1]}"
    cache.init_app(app, db)  # before db: it does not matter
    db.init_app(app)
    with app.app_context():
        db.session.add(Page(name="Front", text=""))
        del wiki.names
        print("deleted", flush=True)
        sys.stdin.readline()
        db.session.commit()
        print("committed", flush=True)


@only_python
def test_an_engine_without_flask_sqlalchemy(database: Database) -> None:
    engine = database.engine()
    app = Flask("small")
    own = CoherentCache(app, engine=engine, max_entries=7)
    assert own.manager.engine is engine

    @app.get("/")
    def view() -> str:
        assert own.manager.view is not None
        return "seen"

    assert app.test_client().get("/").text == "seen"
    assert own.manager.view is None


@only_python
def test_a_manager_made_elsewhere(database: Database) -> None:
    manager = CacheManager(database.engine())
    own = CoherentCache(manager=manager)
    apps = [Flask("one"), Flask("two")]
    for app in apps:
        own.init_app(app)
        assert app.extensions["coherent_cache"].manager is manager
        with app.app_context():
            assert own.manager is manager


@only_python
def test_configuration(database: Database) -> None:
    app = Flask("configured")
    app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite://"
    app.config["SQLALCHEMY_BINDS"] = {"cached": database.url}
    app.config["COHERENT_CACHE_BIND_KEY"] = "cached"
    app.config["COHERENT_CACHE_TABLE"] = "ledger"
    app.config["COHERENT_CACHE_MAX_BYTES"] = 1000
    app.config["COHERENT_CACHE_SIZER"] = len
    SQLAlchemy(app, metadata=None)
    own = CoherentCache(app, table="overridden")
    assert own.manager.engine.url == database.url
    assert own.manager.core.tables.log.name == "ledger"
    own.manager.create_table()
    assert own.manager.get("key", lambda: "value") == "value"
    assert own.manager.statistics.size_bytes == 5
    own.manager.close()
    own.manager.engine.dispose()


@only_python
def test_an_application_that_goes_takes_its_manager_along(database: Database) -> None:
    """Tests make applications by the hundred."""
    app = create_app(database)
    gone = weakref.ref(app.extensions["coherent_cache"].manager)
    app.test_client().get("/names")
    close(app)
    del app
    gc.collect()  # the application, which lets go of its engine
    gc.collect()
    assert gone() is None


@only_python
def test_the_test_client_as_a_block(one: FlaskClient, two: FlaskClient) -> None:
    """`with client:` keeps the application's context after the request, and not the view."""
    with one:
        assert one.get("/names").json == []
        two.post("/add/Front")
        assert cache.manager.view is None
        assert wiki.names == ("Front",)


# Errors


@only_python
def test_what_is_missing_is_said(database: Database) -> None:
    with pytest.raises(ConfigurationError, match=r"call cache\.init_app\(app, db\)"):
        _ = CoherentCache().manager
    bare = Flask("bare")
    with bare.app_context():
        with pytest.raises(ConfigurationError, match=r"'bare': call cache\.init_app"):
            _ = cache.manager
        with pytest.raises(MissingManagerError, match="initialise the framework's extension"):
            _ = wiki.names
    own = CoherentCache(bare)
    with pytest.raises(ConfigurationError, match=r"no database .*'bare': call db\.init_app"):
        _ = own.manager
    with bare.app_context(), pytest.raises(ConfigurationError, match="no database"):
        _ = wiki.names
    with pytest.raises(ConfigurationError, match=r"initialised for .*'bare' already"):
        own.init_app(bare)
    with pytest.raises(ConfigurationError, match="one of db, engine and manager"):
        CoherentCache().init_app(Flask("both"), db, engine=database.engine())
    own.init_app(Flask("second"))
    with pytest.raises(ConfigurationError, match="several applications"):
        _ = own.manager


@only_python
def test_a_db_of_another_application(database: Database) -> None:
    app = Flask("stranger")
    app.config["SQLALCHEMY_DATABASE_URI"] = database.url
    SQLAlchemy(app)
    CoherentCache(app, db)  # not the one of this application
    with pytest.raises(ConfigurationError, match=r"call db\.init_app\(app\)"):
        _ = app.extensions["coherent_cache"].manager


@only_python
def test_a_bind_key_that_is_not_there(database: Database) -> None:
    """The context still works for everything else, and is popped."""
    app = Flask("misspelt")
    app.config["SQLALCHEMY_DATABASE_URI"] = database.url
    app.config["COHERENT_CACHE_BIND_KEY"] = "nowhere"
    SQLAlchemy(app)
    own = CoherentCache(app)
    with app.app_context(), pytest.raises(ConfigurationError, match="BIND_KEY = 'nowhere'"):
        _ = own.manager
    with pytest.raises(ConfigurationError, match="BIND_KEY = 'nowhere'"):
        app.test_client().get("/")


# flask cache ...


@only_python
def test_the_commands(database: Database, tmp_path: Path) -> None:
    app = Flask("commands")
    app.config["SQLALCHEMY_DATABASE_URI"] = database.url
    db.init_app(app)
    cache.init_app(app, db)
    runner = app.test_cli_runner()
    missing = runner.invoke(args=["cache", "status"])
    assert missing.exit_code == 1
    assert "does not exist" in missing.output
    assert runner.invoke(args=["cache", "init"]).output == (
        "tables cache and cache_lane are ready\n"
    )
    assert "'wiki.pages'" in runner.invoke(args=["cache", "invalidate", "wiki.pages"]).output
    assert '"rows": 1' in runner.invoke(args=["cache", "status", "--json"]).output
    assert runner.invoke(args=["cache", "prune", "--keep", "1"]).output == "deleted 0 rows\n"
    close(app)


@only_python
def test_a_command_reaches_the_workers(one: FlaskClient) -> None:
    assert one.get("/names").json == []
    with one.application.app_context():
        db.session.add(Page(name="Front", text=""))
        db.session.commit()  # by a program that knows nothing of the cache
    assert one.get("/names").json == []
    key = f"{__name__}.Wiki.names"
    assert (
        one.application.test_cli_runner().invoke(args=["cache", "invalidate", key]).exit_code == 0
    )
    assert one.get("/names").json == ["Front"]
