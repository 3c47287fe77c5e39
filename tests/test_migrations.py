"""Alembic makes the tables that the library makes itself, by each of the ways there are."""

from __future__ import annotations

import io
import shutil
from argparse import Namespace
from pathlib import Path

import alembic
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.util import CommandError
from sqlalchemy import Engine, MetaData, inspect, text

from coherent_cache import ConfigurationError, TableError, add_tables, make_key

from .databases import Database
from .workers import Worker, metadata

ROOT = Path(__file__).resolve().parents[1]

pytestmark = pytest.mark.on("sqlite-wal", "postgresql", "mariadb")
only_sqlite = pytest.mark.on("sqlite-wal")


class Ours:
    """The project's own environment, as its command line is used."""

    def __init__(self, database: Database, *options: str, ini: Path = ROOT / "alembic.ini") -> None:
        self.output = io.StringIO()
        url = database.url.render_as_string(hide_password=False)
        self.config = Config(
            str(ini),
            cmd_opts=Namespace(x=[f"url={url}", *options]),
            output_buffer=self.output,
            stdout=self.output,
        )

    def upgrade(self, *, sql: bool = False) -> None:
        command.upgrade(self.config, "head", sql=sql)

    def downgrade(self) -> None:
        command.downgrade(self.config, "base")

    def check(self) -> None:
        command.check(self.config)


def tables(engine: Engine) -> set[str]:
    return set(inspect(engine).get_table_names())


def differences(engine: Engine, *, table: str = "cache") -> list[object]:
    """What autogenerate would write into a migration."""
    target = MetaData()
    add_tables(target, table=table)
    with engine.connect() as connection:
        return compare_metadata(
            MigrationContext.configure(
                connection,
                opts={"include_name": lambda name, kind, _: kind != "table" or name in target},
            ),
            target,
        )


def assert_the_library_works(database: Database) -> None:
    """What the tables have to be for: commits reach others, keys are told apart."""
    one, two = Worker(database), Worker(database)
    one.cache_manager.verify_table()
    metadata.create_all(one.engine)
    one.write("Front", "Hello")
    assert two.read("Front") == "Hello"
    one.write("Front", "Bye")
    assert two.read("Front") == "Bye"
    long = make_key("key", "ä☃\x00" * 2_000)
    keys = ["A", "a", "ä", "", long]
    before = one.cache_manager.status()
    one.cache_manager.core.invalidate_now(keys)
    assert one.cache_manager.status().keys == before.keys + len(keys)
    if database.is_sqlite:
        # Other rows would cost each commit another page.
        found = {each["name"]: each for each in inspect(one.engine).get_indexes("cache")}
        condition = found["ix_cache_position"]["dialect_options"].get("sqlite_where")
        assert str(condition) == "lane = -1"


# The project's own environment


def test_it_creates_and_removes_the_tables(database: Database) -> None:
    engine = database.engine()
    metadata.create_all(engine)  # the application's, which stay
    ours = Ours(database)
    ours.upgrade()
    assert tables(engine) == {"page", "cache", "cache_lane", "cache_version"}
    assert differences(engine) == []
    ours.check()
    assert_the_library_works(database)
    ours.upgrade()
    ours.downgrade()
    assert tables(engine) == {"page", "cache_version"}
    ours.upgrade()
    assert_the_library_works(database)


def test_it_takes_over_the_tables_of_create_table(worker: Worker) -> None:
    worker.write("Front", "Hello")
    rows = worker.cache_manager.status().rows
    Ours(worker.database).upgrade()
    assert worker.cache_manager.status().rows == rows
    assert differences(worker.engine) == []
    assert_the_library_works(worker.database)


def test_it_adds_what_an_interrupted_migration_left_out(database: Database) -> None:
    """MariaDB commits each statement of a migration."""
    engine = database.engine()
    with engine.begin() as connection:
        made = add_tables(MetaData())
        made.log.indexes.clear()
        made.log.create(connection)
    assert differences(engine) != []
    Ours(database).upgrade()
    assert differences(engine) == []


def test_it_upgrades_tables_that_are_in_use(worker: Worker, other: Worker, tmp_path: Path) -> None:
    """A later release has another revision: here one that adds a column and an index."""
    shutil.copy(ROOT / "alembic.ini", tmp_path)
    shutil.copytree(ROOT / "migrations", tmp_path / "migrations")
    (tmp_path / "migrations" / "versions" / "0002_later.py").write_text(LATER)
    Ours(worker.database).upgrade()
    worker.write("Front", "Hello")
    assert other.read("Front") == "Hello"
    for manager in (worker.cache_manager, other.cache_manager):
        manager.close()
    for engine in (worker.engine, other.engine):
        engine.dispose()
    Ours(worker.database, ini=tmp_path / "alembic.ini").upgrade()
    assert "note" in {column["name"] for column in inspect(worker.engine).get_columns("cache")}
    worker.write("Front", "Bye")
    assert other.read("Front") == "Bye"
    assert_the_library_works(worker.database)


LATER = """
import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

def upgrade():
    op.add_column("cache", sa.Column("note", sa.Integer))
    op.create_index("ix_cache_note", "cache", ["note"])
"""


def test_tables_of_another_name(database: Database) -> None:
    ours = Ours(database, "table=ledger")
    ours.upgrade()
    assert tables(database.engine()) == {"ledger", "ledger_lane", "ledger_version"}
    ours.check()
    assert differences(database.engine(), table="ledger") == []
    ours.downgrade()
    assert tables(database.engine()) == {"ledger_version"}


@pytest.mark.on("postgresql")
def test_tables_in_a_schema(database: Database) -> None:
    engine = database.engine()
    with engine.begin() as connection:
        connection.execute(text("DROP SCHEMA IF EXISTS ops CASCADE"))
        connection.execute(text("CREATE SCHEMA ops"))
    ours = Ours(database, "schema=ops")
    ours.upgrade()
    ours.check()
    assert tables(engine) == set()
    worker = Worker(database, schema="ops")
    metadata.create_all(engine)
    worker.write("Front", "Hello")
    assert worker.cache_manager.status().rows == 2


def test_another_programs_table_is_left_alone(database: Database) -> None:
    engine = database.engine()
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE cache (id INTEGER, generation INTEGER)"))
    with pytest.raises(TableError, match="'cache' exists but lacks key, key_hash, lane"):
        Ours(database).upgrade()
    assert len(inspect(engine).get_columns("cache")) == 2


def test_without_a_connection_it_writes_sql(database: Database) -> None:
    """`--sql`, for those whose database somebody else looks after."""
    ours = Ours(database)
    ours.upgrade(sql=True)
    engine = database.engine()
    assert tables(engine) == set()
    with engine.begin() as connection:
        for statement in ours.output.getvalue().split(";"):
            if statement.strip() and statement.strip() not in ("BEGIN", "COMMIT"):
                connection.execute(text(statement))
    assert differences(engine) == []
    assert_the_library_works(database)


@only_sqlite
def test_the_database_has_to_be_named(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COHERENT_CACHE_URL", raising=False)
    ours = Ours(database)
    ours.config.cmd_opts = Namespace(x=None)
    with pytest.raises(CommandError, match=r"-x url=URL.*COHERENT_CACHE_URL"):
        ours.upgrade()
    monkeypatch.setenv("COHERENT_CACHE_URL", str(database.url))
    ours.upgrade()
    assert "cache" in tables(database.engine())


# An application with Alembic of its own


class Theirs:
    """An application's environment, with Alembic's own template for its revisions."""

    def __init__(self, database: Database, directory: Path, env: str) -> None:
        self.database = database
        self.versions = directory / "versions"
        self.versions.mkdir(parents=True)
        template = Path(alembic.__file__).parent / "templates" / "generic" / "script.py.mako"
        shutil.copy(template, directory)
        (directory / "env.py").write_text(env)
        self.config = Config(stdout=io.StringIO())
        self.config.set_main_option("script_location", str(directory))
        self.config.set_main_option("path_separator", "os")
        self.config.attributes["engine"] = database.engine()

    def upgrade(self) -> None:
        command.upgrade(self.config, "head")

    def autogenerate(self) -> str:
        command.revision(self.config, "add the cache", autogenerate=True)
        (file,) = self.versions.glob("*.py")
        return file.read_text()


ENV = """
from alembic import context
from sqlalchemy import Column, Integer, MetaData, Table

import coherent_cache

target_metadata = MetaData({options})
Table("theirs", target_metadata, Column("id", Integer, primary_key=True))
{line}

with context.config.attributes["engine"].connect() as connection:
    context.configure(connection=connection, target_metadata=target_metadata, {configure})
    with context.begin_transaction():
        context.run_migrations()
"""
LINE = "coherent_cache.add_tables(target_metadata)"
CONVENTION = """naming_convention={
    "ix": "ix_%(column_0_label)s", "uq": "uq_%(table_name)s_%(column_0_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s", "pk": "pk_%(table_name)s",
}"""


@pytest.mark.parametrize(
    ("options", "configure"),
    [
        ("", ""),
        (CONVENTION, "compare_type=True, compare_server_default=True, render_as_batch=True"),
    ],
    ids=["plain", "strict"],
)
def test_autogenerate_writes_the_tables_and_then_finds_no_difference(
    database: Database, tmp_path: Path, options: str, configure: str
) -> None:
    env = ENV.format(line=LINE, options=options, configure=configure)
    theirs = Theirs(database, tmp_path / "alembic", env)
    written = theirs.autogenerate()
    assert written.count("create_table") == 3
    theirs.upgrade()
    command.check(theirs.config)
    assert differences(theirs.config.attributes["engine"]) == []
    assert_the_library_works(database)
    metadata.drop_all(theirs.config.attributes["engine"])
    command.check(theirs.config)  # nor does it mind what the library did
    command.downgrade(theirs.config, "base")
    assert tables(theirs.config.attributes["engine"]) - {"page"} == {"alembic_version"}


def test_autogenerate_finds_no_difference_to_create_table(worker: Worker) -> None:
    assert differences(worker.engine) == []


@pytest.mark.parametrize("line", ["", LINE], ids=["alone", "with add_tables"])
def test_the_steps_in_a_revision_of_their_own(
    database: Database, tmp_path: Path, line: str
) -> None:
    theirs = Theirs(database, tmp_path / "alembic", ENV.format(line=line, options="", configure=""))
    (theirs.versions / "0001.py").write_text(STEPS)
    theirs.upgrade()
    if line:
        command.check(theirs.config)
    assert differences(theirs.config.attributes["engine"]) == []
    assert_the_library_works(database)
    command.downgrade(theirs.config, "base")
    assert tables(theirs.config.attributes["engine"]) - {"page"} == {"alembic_version"}


STEPS = """
import sqlalchemy as sa
from alembic import op
from coherent_cache import migrations

revision = "0001"
down_revision = None

def upgrade():
    op.create_table("theirs", sa.Column("id", sa.Integer, primary_key=True))
    migrations.upgrade(1)

def downgrade():
    migrations.downgrade(1)
    op.drop_table("theirs")
"""


@only_sqlite
def test_a_step_that_this_release_does_not_know(database: Database, tmp_path: Path) -> None:
    env = ENV.format(line="", options="", configure="")
    theirs = Theirs(database, tmp_path / "alembic", env)
    (theirs.versions / "0001.py").write_text(STEPS.replace("upgrade(1)", "upgrade(2)"))
    with pytest.raises(ConfigurationError, match=r"knows the steps 1 to 1 .* and not 2"):
        theirs.upgrade()
