"""The console script ``coherent-cache``."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import click

    from .manager import CacheManager


def main() -> None:
    """Run the command line; ends the process with its exit code.

    It needs click, which the extra ``coherent-cache[cli]`` brings.
    """
    try:
        import click  # noqa: F401
    except ModuleNotFoundError:
        sys.stderr.write(
            "coherent-cache needs click for its command line: pip install 'coherent-cache[cli]'\n"
        )
        sys.exit(1)
    make_group()(prog_name="coherent-cache")


def make_group() -> click.Group:
    """Return the command line as a click group."""
    import click

    from . import __version__
    from .commands import add_commands

    @click.group(context_settings={"help_option_names": ["-h", "--help"]})
    @click.option(
        "--url",
        envvar="COHERENT_CACHE_URL",
        metavar="URL",
        help="The database, as SQLAlchemy writes it: postgresql+psycopg://user@host/name. "
        "[env: COHERENT_CACHE_URL]",
    )
    @click.option("--table", default="cache", show_default=True, help="The table's name.")
    @click.option("--schema", help="The schema it is in, if not the connection's default.")
    @click.version_option(__version__, package_name="coherent-cache")
    def group(url: str | None, table: str, schema: str | None) -> None:
        """Look after the table that keeps caches coherent."""

    def manager() -> CacheManager:
        context = click.get_current_context()
        options = context.find_root().params
        if not options["url"]:
            raise click.UsageError("which database? give --url, or set COHERENT_CACHE_URL")
        return _open(
            context,
            options["url"],
            table=options["table"],
            schema=options["schema"],
        )

    add_commands(group, manager)
    return group


def _open(context: click.Context, text: str, *, table: str, schema: str | None) -> CacheManager:
    """A manager for the length of *context*."""
    from sqlalchemy import create_engine, make_url
    from sqlalchemy.exc import ArgumentError

    from .errors import ConfigurationError
    from .manager import CacheManager

    try:
        url = make_url(text)
    except (ArgumentError, ValueError):  # ValueError: a port that is no number
        # Not SQLAlchemy's words: they may quote the text, and the text may hold a password.
        raise ConfigurationError(
            "the URL is not one that SQLAlchemy understands; it looks like "
            "postgresql+psycopg://user@host/name or sqlite:///file.db"
        ) from None
    if (
        url.get_backend_name() == "sqlite"
        and url.database
        and not url.database.startswith((":memory:", "file:"))
        and not os.path.exists(url.database)
        and context.info_name != "init"
    ):
        # Connecting would leave an empty file where a name was misspelt.
        raise ConfigurationError(f"there is no database file {url.database!r}")
    try:
        engine = create_engine(url)
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"the driver of {url.drivername!r} is not installed: {error}"
        ) from error
    if engine.dialect.is_async:
        raise ConfigurationError(
            f"{url.drivername!r} is an asynchronous driver; name a synchronous one for the same "
            f"database, such as sqlite, postgresql+psycopg or mysql+pymysql"
        )
    found = CacheManager(engine, table=table, schema=schema)
    context.call_on_close(engine.dispose)
    context.call_on_close(found.close)
    return found
