"""Alembic's environment for the ledger's tables.

``-x url=URL`` (or the variable COHERENT_CACHE_URL) names the database; ``-x table=NAME`` and
``-x schema=NAME`` the tables, as for `coherent_cache.CacheManager`.
"""

import os

from alembic import context
from alembic.util import CommandError
from sqlalchemy import MetaData, create_engine
from sqlalchemy.pool import NullPool

import coherent_cache

given = context.get_x_argument(as_dictionary=True)
table = given.get("table") or "cache"
schema = given.get("schema") or None
target_metadata = MetaData()
coherent_cache.add_tables(target_metadata, table=table, schema=schema)


def database_url() -> str:
    url = given.get("url") or os.environ.get("COHERENT_CACHE_URL")
    if not url:
        raise CommandError(
            "which database? give 'alembic -x url=URL ...', or set COHERENT_CACHE_URL"
        )
    return url


def only_ours(name, kind, parent_names):  # type: ignore[no-untyped-def]
    """The application's tables are none of our business."""
    return kind != "table" or name in {t.name for t in target_metadata.tables.values()}


options = {
    "target_metadata": target_metadata,
    "version_table": f"{table}_version",  # the application may have an alembic_version of its own
    "version_table_schema": schema,
    "include_schemas": schema is not None,
    "include_name": only_ours,
}

if context.is_offline_mode():
    context.configure(url=database_url(), literal_binds=True, **options)
    with context.begin_transaction():
        context.run_migrations()
else:
    engine = create_engine(database_url(), poolclass=NullPool)
    with engine.connect() as connection:
        context.configure(connection=connection, **options)
        with context.begin_transaction():
            context.run_migrations()
