"""Bad input: what the application or its administrator got wrong.

Each is an error of one tree that says what happened, for which key, and what to do next; and
nothing is half done.
"""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import create_engine, create_mock_engine, select, text
from sqlalchemy.dialects import registry
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from coherent_cache import (
    CacheError,
    CacheManager,
    ConfigurationError,
    InvalidationError,
    TableError,
    UnsupportedDatabaseError,
)

from .workers import PageText, Worker, metadata, page, put


def in_database(worker: Worker, name: str = "Front") -> str | None:
    with worker.engine.connect() as connection:
        return connection.scalar(select(page.c.text).where(page.c.name == name))


@pytest.mark.on("sqlite-memory", "sqlite-wal", "postgresql", "mariadb")
def test_missing_table(worker: Worker) -> None:
    """On a read, on a `del`, and at the commit, which takes the data with it."""
    put_text(worker, "old")
    worker.cache_manager.metadata.drop_all(worker.engine)
    manager = worker.cache_manager
    with pytest.raises(TableError, match=r"'cache'.*create_table\(\).*coherent-cache init"):
        worker.read("Front")
    with pytest.raises(TableError, match="does not exist"):
        del PageText(worker, "Front").text
    with pytest.raises(TableError, match="does not exist") as caught, manager.begin() as connection:
        put(connection, "Front", "never")
        del PageText(worker, "Front").text
    assert isinstance(caught.value, ConfigurationError)
    assert isinstance(caught.value, CacheError)
    assert isinstance(caught.value.__cause__, DBAPIError)
    assert in_database(worker) == "old"
    with manager.begin() as connection:  # who invalidates nothing is not concerned
        put(connection, "Front", "new")
    manager.create_table()
    assert worker.read("Front") == "new"


def put_text(worker: Worker, value: str) -> None:
    with worker.engine.begin() as connection:
        put(connection, "Front", value)


@pytest.mark.on("sqlite-memory", "sqlite-wal", "postgresql", "mariadb")
def test_table_of_another_program(worker: Worker) -> None:
    """A table of that name exists, and is Trac's."""
    manager = worker.cache_manager
    put_text(worker, "old")
    manager.metadata.drop_all(worker.engine)
    with worker.engine.begin() as connection:
        name = worker.engine.dialect.identifier_preparer.quote("key")
        connection.execute(
            text(f"CREATE TABLE cache (id INTEGER PRIMARY KEY, generation INTEGER, {name} TEXT)")
        )
        connection.execute(text("INSERT INTO cache VALUES (1, 1, 'theirs')"))
    for use in (manager.create_table, manager.verify_table):
        with pytest.raises(TableError, match=r"lacks .*token.*another table name"):
            use()
    with pytest.raises(TableError, match=r"not one of this release|does not exist"):
        worker.read("Front")
    with (
        pytest.raises(TableError, match=r"not one of this release|does not exist"),
        manager.begin() as connection,
    ):
        put(connection, "Front", "never")
        del PageText(worker, "Front").text
    assert in_database(worker) == "old"
    with worker.engine.connect() as connection:
        assert connection.execute(text("SELECT id FROM cache")).scalar() == 1
    named = Worker(worker.database, engine=worker.engine, table="cache_of_ours")
    named.cache_manager.create_table()
    assert named.read("Front") == "old"


@pytest.mark.on("sqlite-memory")
def test_unsupported_database(worker: Worker) -> None:
    class Stub(DefaultDialect):
        name = "stub"
        supports_statement_cache = True

        @classmethod
        def import_dbapi(cls) -> Any:
            import sqlite3

            return sqlite3

    globals()["Stub"] = Stub
    registry.register("stub", __name__, "Stub")
    with pytest.raises(UnsupportedDatabaseError, match=r"'stub'.*mariadb.*postgresql.*sqlite"):
        CacheManager(create_engine("stub://"))
    for wrong in (create_mock_engine("sqlite://", lambda *_: None), "sqlite://", None):
        with pytest.raises(ConfigurationError, match="takes an SQLAlchemy Engine"):
            CacheManager(wrong)  # type: ignore[arg-type]


@pytest.mark.on("sqlite-memory")
def test_wrong_options(worker: Worker) -> None:
    with pytest.raises(ConfigurationError, match="max_entries"):
        CacheManager(worker.engine, max_entries=0)
    with pytest.raises(ConfigurationError, match="sizer"):
        CacheManager(worker.engine, max_bytes=5)
    with pytest.raises(ConfigurationError, match=r"Worker\.engine is not a cached attribute"):
        worker.cache_manager.invalidate(worker, "engine")


READ_ONLY = {
    "postgresql": "SET TRANSACTION READ ONLY",
    "mariadb": "START TRANSACTION READ ONLY",
    "sqlite-wal": "PRAGMA query_only=ON",
    "sqlite-journal": "PRAGMA query_only=ON",
}


def test_del_in_a_read_only_transaction(worker: Worker, other: Worker) -> None:
    """Nothing can have been written there, so there is nothing to be atomic with: it is made when
    the transaction has ended, and no error of ours is added to that."""
    worker.write("Front", "old")
    assert worker.read("Front") == other.read("Front") == "old"
    engine = worker.database.engine(pool_size=1)
    reader = Worker(worker.database, engine=engine)
    with engine.connect() as connection:
        connection.exec_driver_sql(READ_ONLY[worker.database.kind])
        del PageText(reader, "Front").text
        connection.commit()
        if worker.database.is_sqlite:
            connection.exec_driver_sql("PRAGMA query_only=OFF")
        loads = other.cache_manager.statistics.loads
        assert worker.read("Front") == other.read("Front") == "old"
        assert other.cache_manager.statistics.loads == loads + 1


@pytest.mark.on("sqlite-wal", "sqlite-journal", "postgresql")
def test_del_on_a_read_only_database(worker: Worker) -> None:
    """Reading works; a `del` says what is wrong, in a transaction and without one."""
    worker.write("Front", "old")
    if worker.database.is_sqlite:
        url = f"sqlite:///file:{worker.database.url.database}?mode=ro&uri=true"
        engine = create_engine(url)
    else:
        options = {"options": "-c default_transaction_read_only=on"}
        engine = create_engine(worker.database.url, connect_args=options)
    worker.database.engines.append(engine)
    reader = Worker(worker.database, engine=engine)
    assert reader.read("Front") == "old"
    named = r"PageText\.text\['Front'\].*read-only"
    with pytest.raises(InvalidationError, match=named) as caught:
        del PageText(reader, "Front").text
    assert caught.value.keys == (PageText.text.key_of(PageText(reader, "Front")),)
    with pytest.raises(InvalidationError, match="read-only"), reader.cache_manager.begin():
        del PageText(reader, "Front").text
    worker.write("Front", "new")
    assert reader.read("Front") == "new"


# The forms a session is met in


@pytest.mark.on("sqlite-wal", "postgresql", "mariadb")
@pytest.mark.parametrize("form", ["autobegin", "begin", "nested", "joined", "scoped", "explicit"])
def test_session_forms(worker: Worker, other: Worker, form: str) -> None:
    """Nothing is flushed when the `del` comes; committed, closed and rolled back."""
    import contextlib

    from sqlalchemy.orm import registry as mapper_registry
    from sqlalchemy.orm import scoped_session, sessionmaker

    class Page:
        def __init__(self, name: str) -> None:
            self.name, self.text, self.version = name, "", 0

    mapper_registry().map_imperatively(Page, page)
    assert worker.wiki.names == other.wiki.names == frozenset()
    worker.cache_manager.invalidate("first row")
    assert worker.wiki.names == other.wiki.names == frozenset()
    for end in ("close", "rollback", "commit"):
        with contextlib.ExitStack() as stack:
            outer = None
            if form == "joined":
                outer = stack.enter_context(worker.engine.connect())
                transaction = outer.begin()
                session: Any = Session(outer, join_transaction_mode="create_savepoint")
            elif form == "scoped":
                session = scoped_session(sessionmaker(worker.engine))
            else:
                session = Session(worker.engine)
            stack.callback(session.close)
            with worker.cache_manager.request():
                if form == "begin":
                    session.begin()
                if form == "nested":
                    with pytest.raises(ZeroDivisionError), session.begin_nested():
                        session.add(Page("never"))
                        worker.cache_manager.invalidate("unrelated")
                        raise ZeroDivisionError
                    with session.begin_nested():
                        session.add(Page(end))
                        del worker.wiki.names
                else:
                    session.add(Page(end))
                    if form == "explicit":
                        worker.cache_manager.invalidate(worker.wiki, "names", session=session)
                    else:
                        del worker.wiki.names
                assert other.wiki.names == frozenset()
                getattr(session, end)()
                if form == "joined":
                    assert other.wiki.names == frozenset()
                    getattr(transaction, end)()
                expected = {"commit"} if end == "commit" else frozenset()
                assert worker.wiki.names == expected
            assert worker.wiki.names == other.wiki.names == expected


@pytest.mark.on("sqlite-wal", "postgresql", "mariadb")
def test_two_sessions_at_once(worker: Worker, other: Worker) -> None:
    """Either may be the one that is meant; and one of them is named outright."""
    worker.write("Front", "old")
    assert worker.read("Front") == other.read("Front") == "old"
    with Session(worker.engine) as one, Session(worker.engine) as two:
        one.execute(select(page)).all()
        two.execute(page.update().values(text="new"))
        del PageText(worker, "Front").text
        two.commit()
        assert other.read("Front") == "new"
        one.rollback()
        assert worker.read("Front") == other.read("Front") == "new"
        one.execute(page.update().values(text="newer"))
        two.execute(select(page)).all()
        worker.cache_manager.invalidate(PageText(worker, "Front"), "text", session=one)
        two.commit()
        assert other.read("Front") == "new"
        one.commit()
    assert worker.read("Front") == other.read("Front") == "newer"
    with worker.engine.connect() as connection:
        put(connection, "Front", "newest")
        worker.cache_manager.invalidate(PageText(worker, "Front"), "text", connection=connection)
        assert other.read("Front") == "newer"
        connection.commit()
    assert worker.read("Front") == other.read("Front") == "newest"
    assert metadata.tables
