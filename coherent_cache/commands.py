"""The commands of ``coherent-cache`` and ``flask cache``: the same four, on some manager."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import click
import filelock
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from .errors import CacheError
from .manager import CacheManager

_P = ParamSpec("_P")
_T = TypeVar("_T")


def add_commands(group: click.Group, manager: Callable[[], CacheManager]) -> None:
    """Add ``init``, ``status``, ``invalidate`` and ``prune`` to *group*; *manager* is called when
    one of them runs.

    What the user can mend (`CacheError`, a driver's error) becomes one line on the error output
    and exit code 1.
    """

    @group.command()
    @plain_errors
    def init() -> None:
        """Create the tables, unless they are there."""
        found = manager()
        found.create_table()
        tables = found.core.tables
        _say(f"tables {tables.log.fullname} and {tables.lanes.fullname} are ready")

    @group.command()
    @click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
    @plain_errors
    def status(as_json: bool) -> None:
        """Show figures about the tables.  Reads them whole."""
        found = manager()
        found.verify_table()
        ledger = found.status()
        figures: dict[str, str | int] = {
            "database": found.engine.url.render_as_string(hide_password=True),
            "table": found.core.tables.log.fullname,
            "rows": ledger.rows,
            "keys": ledger.keys,
            "newest_generation": ledger.newest_generation,
            "lanes": ledger.lanes,
        }
        if as_json:
            _say(json.dumps(figures))
            return
        for name, figure in figures.items():
            _say(f"{name.replace('_', ' '):18} {figure}")

    @group.command()
    @click.argument("keys", metavar="KEY...", nargs=-1, required=True)
    @plain_errors
    def invalidate(keys: tuple[str, ...]) -> None:
        """Invalidate keys, all in one transaction.

        A KEY is the text that names a cached value, such as app.wiki.Page.html['Front'].  The
        table does not know which values processes hold, so no key is refused.
        """
        manager().core.invalidate_now(keys)
        for key in keys:
            _say(f"invalidated {key!r}; a process that holds a value for it computes it anew")

    @group.command()
    @click.option(
        "--keep",
        type=click.IntRange(min=1, max=2**62),  # what a database can count
        default=10_000,
        show_default=True,
        help="How many of the newest rows stay, at least.",
    )
    @plain_errors
    def prune(keep: int) -> None:
        """Delete the oldest rows.  No value becomes wrong by it."""
        found = manager()
        if sys.stderr.isatty():
            rows = max(found.status().rows - keep, 0)
            with click.progressbar(length=rows, label="pruning", file=sys.stderr) as bar:
                deleted = found.prune(keep=keep, progress=lambda done: bar.update(done - bar.pos))
        else:
            deleted = found.prune(keep=keep)
        _say(f"deleted {deleted} rows")


def plain_errors(command: Callable[_P, _T]) -> Callable[_P, _T]:
    """Decorate a command so that the user's own errors end it in one line, with exit code 1."""

    @functools.wraps(command)
    def run(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        try:
            return command(*args, **kwargs)
        except DBAPIError as error:
            raise click.ClickException(_one_line(str(error.orig))) from error
        except (CacheError, SQLAlchemyError, filelock.Timeout) as error:
            raise click.ClickException(_one_line(str(error))) from error

    return run


def _say(text: str) -> None:
    click.echo(_printable(text, sys.stdout.encoding))


def _one_line(text: str) -> str:
    return _printable(" ".join(text.split()), sys.stderr.encoding)


def _printable(text: str, encoding: str | None) -> str:
    """*text* with what a terminal would obey, or cannot show, as an escape."""
    plain = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    encoding = encoding or "ascii"
    return plain.encode(encoding, "backslashreplace").decode(encoding)
