"""Starting: the first time, several at once, half a time, and with what cannot work."""

from __future__ import annotations

import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from sqlalchemy import URL, func, select

from example_app.__main__ import main
from example_app.models import Page, Site, db
from example_app.seed import prepare
from example_app.wiki import NAVIGATION

from .conftest import KINDS, PAGES, close, make_app
from .serving import ROOT, environment

_START = (
    "import sys; from example_app import create_app; from example_app.seed import prepare;"
    "app = create_app({'INSTANCE_PATH': sys.argv[1]} | dict(zip(['DATABASE_URL'], sys.argv[2:])));"
    "print('filled' if prepare(app) else 'found')"
)


@pytest.mark.parametrize("kind", KINDS)
def test_starts_at_once_fill_it_once(
    kind: str, own_database: Callable[[str], URL | None], tmp_path: Path
) -> None:
    url = own_database(kind)
    arguments = [] if url is None else [url.render_as_string(hide_password=False)]
    # On a server each has an instance folder of its own, as on three machines.
    folders = [tmp_path / ("one" if url is None else str(number)) for number in range(3)]
    starts = [
        subprocess.Popen(
            [sys.executable, "-c", _START, str(folder), *arguments],
            cwd=ROOT,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for folder in folders
    ]
    said = [start.communicate(timeout=60) for start in starts]
    assert [start.returncode for start in starts] == [0, 0, 0], said
    assert sorted(out.strip() for out, _ in said) == ["filled", "found", "found"], said
    app = make_app(folders[0], **({} if url is None else {"DATABASE_URL": arguments[0]}))
    with app.app_context():
        assert db.session.scalar(select(func.count()).select_from(Page)) == PAGES
        assert db.session.scalar(select(func.count()).select_from(Site)) == 1
        assert db.session.scalar(select(Page.version).where(Page.name == NAVIGATION)) == 1
    close(app)


def test_half_a_start_leaves_nothing_behind(tmp_path: Path) -> None:
    app = make_app(tmp_path)

    def stop(done: int, total: int) -> None:
        if done == 40:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(app, stop)
    with app.app_context():
        assert db.session.scalar(select(func.count()).select_from(Page)) == 0
        db.session.remove()
    assert prepare(app)
    assert not prepare(app)
    close(app)


def test_secret_key_is_kept_and_private(tmp_path: Path) -> None:
    apps = [make_app(tmp_path), make_app(tmp_path)]
    key = tmp_path / "secret_key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert {app.config["SECRET_KEY"] for app in apps} == {key.read_text()}
    assert len(key.read_text()) == 64
    for app in apps:
        close(app)


def test_one_variable_chooses_the_database(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgres://somebody@127.0.0.1/wiki")
    app = make_app(tmp_path)
    assert app.config["SQLALCHEMY_DATABASE_URI"].drivername == "postgresql+psycopg"
    monkeypatch.setenv("DATABASE_URL", "mariadb://somebody@127.0.0.1/wiki")
    assert make_app(tmp_path).config["SQLALCHEMY_DATABASE_URI"].drivername == "mysql+pymysql"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--database-url", "nonsense"], "This database URL cannot be used"),
        (["--database-url", "oracle+nothing://x"], "This database URL cannot be used"),
        (["--database-url", "postgresql://x@127.0.0.1:1/x"], "The database does not answer"),
        (["--instance", "/proc/nowhere"], "The instance folder cannot be used"),
        (["--workers", "0"], "Invalid value for '--workers'"),
    ],
)
def test_what_cannot_work_is_said(arguments: list[str], says: str, tmp_path: Path) -> None:
    if "--instance" not in arguments:
        arguments = [*arguments, "--instance", str(tmp_path)]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code != 0
    assert says in result.output
    assert "Traceback" not in result.output
