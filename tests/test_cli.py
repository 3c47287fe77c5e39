"""The console script: what it prints, its exit codes, and that no user's error is a traceback."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from sqlalchemy import text

from coherent_cache import make_key
from coherent_cache.cli import make_group
from coherent_cache.commands import add_commands

from .databases import Database
from .workers import PageText, Worker, page

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.on("sqlite-wal", "postgresql", "mariadb")
only_sqlite = pytest.mark.on("sqlite-wal")


class CommandLine:
    """``coherent-cache`` on one database."""

    def __init__(self, database: Database) -> None:
        self.url = database.url.render_as_string(hide_password=False)

    def run(self, *arguments: str, env: dict[str, str] | None = None) -> Result:
        return CliRunner().invoke(make_group(), ["--url", self.url, *arguments], env=env)

    def succeed(self, *arguments: str) -> str:
        result = self.run(*arguments)
        assert result.exit_code == 0, result.output
        return result.stdout

    def fail(self, *arguments: str) -> str:
        """The one line on the error output; nothing else is printed."""
        result = self.run(*arguments)
        assert result.exit_code == 1, result.output
        assert result.stdout == ""
        assert isinstance(result.exception, SystemExit)
        (line,) = result.stderr.splitlines()
        assert line.startswith("Error: ")
        return line


@pytest.fixture
def command(database: Database) -> CommandLine:
    return CommandLine(database)


def script(*arguments: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
    """The script as a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", "from coherent_cache.cli import main; main()", *arguments],
        timeout=60,
        check=False,
        stdout=subprocess.PIPE,
        **{"stderr": subprocess.PIPE, **options},
    )


# The four commands


def test_init_status_invalidate_prune(database: Database, command: CommandLine) -> None:
    assert command.succeed("init") == "tables cache and cache_lane are ready\n"
    assert command.succeed("init") == "tables cache and cache_lane are ready\n"  # they stay
    assert json.loads(command.succeed("status", "--json"))["newest_generation"] == 0
    for _ in range(3):
        out = command.succeed("invalidate", "wiki.pages", "wiki.settings")
        assert out.splitlines()[0].startswith("invalidated 'wiki.pages'")
        assert out.splitlines()[1].startswith("invalidated 'wiki.settings'")
    shown = json.loads(command.succeed("status", "--json"))
    assert {shown[name] for name in ("rows", "newest_generation")} == {6}
    assert (shown["keys"], shown["table"]) == (2, "cache")
    table = dict(
        line.split(None, 1) for line in command.succeed("status").splitlines() if "gen" not in line
    )
    assert (table["rows"], table["keys"], table["table"]) == ("6", "2", "cache")
    assert table["database"] == database.url.render_as_string(hide_password=True)
    deleted = int(command.succeed("prune", "--keep", "2").split()[1])
    assert json.loads(command.succeed("status", "--json"))["rows"] == 6 - deleted
    assert 0 < deleted <= 4
    assert command.succeed("prune", "--keep", "2") == "deleted 0 rows\n"


def test_invalidate_reaches_a_worker(worker: Worker, command: CommandLine) -> None:
    """Keys as they are written in a shell."""
    name = 'O\'Hara ["draft"] – 50 % ☃'
    key = make_key("tests.workers.PageText.text", name)
    assert PageText(worker, name).text is None
    with worker.database.engine().begin() as connection:  # a program that knows no cache
        connection.execute(page.insert().values(name=name, text="Hello", version=0))
    assert PageText(worker, name).text is None
    command.succeed("invalidate", "something.else", key)
    assert PageText(worker, name).text == "Hello"


def test_a_table_of_another_name_and_schema(database: Database, command: CommandLine) -> None:
    schema: tuple[str, ...] = ()
    if database.kind == "postgresql":
        with database.engine().begin() as connection:
            connection.execute(text("DROP SCHEMA IF EXISTS ops CASCADE"))
            connection.execute(text("CREATE SCHEMA ops"))
        schema = ("--schema", "ops")
    options = ("--table", "ledger", *schema)
    expected = "ops.ledger" if schema else "ledger"
    assert expected in command.succeed(*options, "init")
    command.succeed(*options, "invalidate", "key")
    assert json.loads(command.succeed(*options, "status", "--json"))["rows"] == 1
    assert "'cache'" in command.fail("status")


def test_errors_are_one_line(database: Database, command: CommandLine) -> None:
    for arguments in (["status"], ["invalidate", "key"], ["prune"]):
        if database.is_sqlite:
            database.engine().connect().close()  # there is a file, and no table
        line = command.fail(*arguments)
        assert "'cache'" in line
        assert "create it with" in line
    with database.engine().begin() as connection:
        connection.execute(text("CREATE TABLE cache (id INTEGER, generation INTEGER)"))
    assert "lacks" in command.fail("init")
    assert "lacks" in command.fail("status") or "does not exist" in command.fail("status")


# What goes wrong


@only_sqlite
@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("u:secret@host", "the URL is not one that SQLAlchemy understands"),
        ("delphi://host/name", "delphi"),
        ("sqlite+aiosqlite:///x.db", "'sqlite+aiosqlite' is an asynchronous driver"),
        ("postgresql+pg8000://u:secret@host/x", "driver of 'postgresql+pg8000' is not installed"),
        ("postgresql+psycopg://u:secret@127.0.0.1:1/x", "127.0.0.1"),
        ("mysql+pymysql://u:secret@127.0.0.1:1/x", "127.0.0.1"),
        ("mssql+pyodbc://u:secret@host/x", "mssql+pyodbc"),
    ],
)
def test_urls_that_lead_nowhere(database: Database, url: str, expected: str) -> None:
    command = CommandLine(database)
    command.url = url
    line = command.fail("init")
    assert expected in line
    assert "secret" not in line


@only_sqlite
def test_a_misspelt_file_is_not_made(tmp_path: Path, command: CommandLine) -> None:
    command.url = f"sqlite:///{tmp_path}/misspelt.db"
    for arguments in (["status"], ["invalidate", "key"], ["prune"]):
        assert "there is no database file" in command.fail(*arguments)
    assert not (tmp_path / "misspelt.db").exists()
    command.succeed("init")


@only_sqlite
def test_the_database_may_be_named_by_the_environment(command: CommandLine) -> None:
    env = {"COHERENT_CACHE_URL": command.url}
    assert CliRunner().invoke(make_group(), ["init"], env=env).exit_code == 0
    without = CliRunner().invoke(make_group(), ["init"])
    assert without.exit_code == 2
    assert "give --url, or set COHERENT_CACHE_URL" in without.stderr
    assert CliRunner().invoke(make_group(), ["invalidate", "--help"]).exit_code == 0
    assert command.run("invalidate").exit_code == 2  # which key?
    assert command.run("prune", "--keep", "0").exit_code == 2


@only_sqlite
def test_keys_with_anything_in_them(worker: Worker, command: CommandLine) -> None:
    """What a terminal would obey is printed as an escape; so is what its encoding lacks, and
    bytes that are no text at all.  Each is one key, and arrives as it is."""
    keys = [b"", b"\x1b[31mred", b"two\nlines", "snow ☃".encode(), b"\xff\xfe", b"-dash"]
    for encoding in ("utf-8", "ascii"):
        done = script(
            "--url",
            command.url,
            "invalidate",
            "--",
            *(os.fsdecode(key) for key in keys),
            env={**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "1"},
        )
        assert done.returncode == 0, done.stderr
        lines = done.stdout.decode(encoding).splitlines()
        assert len(lines) == len(keys)
        assert "\x1b" not in done.stdout.decode(encoding)
        assert "snow ☃" in lines[3] if encoding == "utf-8" else r"snow \u2603" in lines[3]
        assert r"\udcff\udcfe" in lines[4]
    assert worker.cache_manager.status().keys == len(keys)


@only_sqlite
def test_what_a_terminal_would_obey_is_not_printed(command: CommandLine, tmp_path: Path) -> None:
    assert command.succeed("--table", "\x1b[31mred", "init").startswith(r"tables \x1b[31mred and ")
    command.url = f"sqlite:///{tmp_path}/\x1b[31m\nred.db"
    assert "\x1b" not in command.fail("status")


@only_sqlite
def test_a_defect_is_not_hidden(worker: Worker) -> None:
    """Only what the user can mend becomes one line."""

    def broken() -> Any:
        raise ZeroDivisionError

    group = click.Group()
    add_commands(group, broken)
    assert isinstance(CliRunner().invoke(group, ["init"]).exception, ZeroDivisionError)


@only_sqlite
def test_without_click(tmp_path: Path) -> None:
    (tmp_path / "click.py").write_text("raise ModuleNotFoundError(name='click')")
    done = script("--help", env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"})
    assert done.returncode == 1
    assert done.stderr.decode().splitlines() == [
        "coherent-cache needs click for its command line: pip install 'coherent-cache[cli]'"
    ]


@only_sqlite
def test_prune_shows_its_progress_on_a_terminal(worker: Worker, command: CommandLine) -> None:
    worker.cache_manager.core.invalidate_now([f"key {n}" for n in range(2500)])
    ours, theirs = pty.openpty()
    try:
        done = script("--url", command.url, "prune", "--keep", "500", stderr=theirs)
        shown = os.read(ours, 100_000).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    assert done.stdout == b"deleted 2000 rows\n"
    assert "pruning" in shown
    assert "50%" in shown
    assert "100%" in shown
