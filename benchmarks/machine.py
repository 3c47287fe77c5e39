"""What a run ran on: its revision, its date, the versions of everything that counts."""

from __future__ import annotations

import os
import platform
import sqlite3
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from tests.databases import SERVICES, service_url

_PACKAGES = """
    sqlalchemy psycopg pymysql asyncpg aiosqlite aiomysql greenlet dogpile.cache flask-caching
    cachetools theine cachebox gunicorn uvicorn flask starlette redis
""".split()
_ROOT = Path(__file__).resolve().parent.parent


def describe() -> dict[str, Any]:
    """Everything that two records may differ in beside the figures."""
    return {
        "revision": revision(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "databases": {"sqlite": sqlite3.sqlite_version, **_servers()},
        "packages": {name: found for name in _PACKAGES if (found := _version(name))},
    }


def revision() -> str:
    """The commit that is checked out, with a ``+`` if the package was changed since."""
    found = _git("rev-parse", "--short=10", "HEAD")
    if not found:
        return "unknown"
    return found + ("+" if _git("status", "--porcelain", "--", "coherent_cache") else "")


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=_ROOT, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _servers() -> dict[str, str]:
    found = {}
    for kind in SERVICES:
        engine = create_engine(service_url(kind), poolclass=NullPool)
        try:
            with engine.connect() as connection:
                told = connection.scalar(text("SELECT version()"))
        except Exception:
            continue
        found[kind] = str(told).removeprefix("PostgreSQL ").split(" ")[0]
    return found
