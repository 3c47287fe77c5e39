"""``python -m example_app``: prepare the database, then serve the wiki from several processes."""

from __future__ import annotations

import sys
from typing import Any

import click
from flask import Flask
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from .app import create_app
from .models import db
from .seed import prepare
from .server import WORKER_CLASSES, Server


@click.command(context_settings={"show_default": True, "help_option_names": ["-h", "--help"]})
@click.option("--host", default="127.0.0.1", help="Address to listen on.")
@click.option(
    "--port", default=8000, type=click.IntRange(0, 65535), help="Port; 0 takes a free one."
)
@click.option("--workers", default=4, type=click.IntRange(1, 64), help="Worker processes.")
@click.option("--worker-class", default="sync", type=click.Choice(list(WORKER_CLASSES)))
@click.option(
    "--threads", default=1, type=click.IntRange(1, 64), help="Threads per worker, for gthread."
)
@click.option(
    "--database-url", envvar="DATABASE_URL", help="SQLAlchemy URL; without it, a SQLite file."
)
@click.option(
    "--instance", type=click.Path(file_okay=False), help="Folder for the file and the secret key."
)
def main(
    host: str,
    port: int,
    workers: int,
    worker_class: str,
    threads: int,
    database_url: str | None,
    instance: str | None,
) -> None:
    """Serve the example wiki of coherent_cache."""
    config: dict[str, Any] = {"DATABASE_URL": database_url} if database_url else {}
    if instance:
        config["INSTANCE_PATH"] = instance
    try:
        app = create_app(config)
        where = _prepare(app)
    except (ArgumentError, NoSuchModuleError, ModuleNotFoundError) as error:
        raise click.ClickException(f"This database URL cannot be used: {error}") from error
    except DBAPIError as error:
        raise click.ClickException(f"The database does not answer: {error.orig}") from error
    except OSError as error:
        raise click.ClickException(f"The instance folder cannot be used: {error}") from error
    click.echo(
        f"Wiki:     http://{host}:{port or '(see below)'}\nDatabase: {where}\nWorkers:  {workers}\n"
    )
    Server(
        app,
        bind=f"{host}:{port}",
        workers=workers,
        worker_class=WORKER_CLASSES[worker_class],
        threads=threads,
    ).run()


def _prepare(app: Flask) -> str:
    """Create and fill the tables; returns the database as text that may be shown."""
    prepare(app, _show_progress)
    with app.app_context():
        # The workers are forked from this process: no connection may be open in both.
        db.engine.dispose()
        return db.engine.url.render_as_string(hide_password=True)


def _show_progress(done: int, total: int) -> None:
    """Keep one line that counts up on a terminal; elsewhere write it once."""
    if sys.stderr.isatty():
        click.echo(f"\rWriting articles: {done} of {total}", nl=done == total, err=True)
    elif done == total:
        click.echo(f"Wrote {total} articles.", err=True)


if __name__ == "__main__":
    main(prog_name="python -m example_app")
