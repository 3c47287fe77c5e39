"""Where the application gets its settings from, and the files it keeps in its instance folder."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Any

from filelock import FileLock
from flask import Flask
from sqlalchemy import URL, make_url

from .sharing import snapshot_at, tier_at

KIB = 1024
_DRIVERS = {
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "mysql": "mysql+pymysql",
    "mariadb": "mysql+pymysql",
}
_BUSY_SECONDS = 15  # how long SQLite waits for another writer

DEFAULTS: dict[str, Any] = {
    # A request of more bytes is refused before it is read; the limit for a text is a setting.
    "MAX_CONTENT_LENGTH": 4 * KIB * KIB,
    "MAX_FORM_MEMORY_SIZE": 4 * KIB * KIB,
    "SESSION_COOKIE_NAME": "wiki",
    "SESSION_COOKIE_HTTPONLY": True,
    "SESSION_COOKIE_SAMESITE": "Lax",
    # Behind HTTPS set FLASK_SESSION_COOKIE_SECURE=true; plain http would never get it back.
    "SESSION_COOKIE_SECURE": False,
    # Someone who thinks for two hours about a text must still be able to save it.
    "WTF_CSRF_TIME_LIMIT": None,
    # Seconds. The addresses of static files carry a version.
    "SEND_FILE_MAX_AGE_DEFAULT": 31_536_000,
}


def configure(app: Flask, overrides: dict[str, Any] | None = None) -> None:
    """Set defaults, then FLASK_* variables, then those named below, then the overrides."""
    app.config.from_mapping(DEFAULTS)
    app.config.from_prefixed_env()
    if "DATABASE_URL" in os.environ:
        app.config["DATABASE_URL"] = os.environ["DATABASE_URL"]
    for name in ("WIKI_TIER", "WIKI_SNAPSHOT"):
        if name in os.environ:
            app.config[name] = os.environ[name]
    app.config.from_mapping(overrides or {})
    instance = Path(app.instance_path)
    instance.mkdir(parents=True, exist_ok=True)
    url = database_url(app.config.get("DATABASE_URL") or f"sqlite:///{instance / 'wiki.sqlite'}")
    app.config["SQLALCHEMY_DATABASE_URI"] = url
    app.config.setdefault("SQLALCHEMY_ENGINE_OPTIONS", _engine_options(url))
    if not app.config.get("SECRET_KEY"):
        app.config["SECRET_KEY"] = _kept_secret(instance)
    if app.config.get("WIKI_TIER"):
        app.config["COHERENT_CACHE_TIER"] = tier_at(
            app.config["WIKI_TIER"], app.config["SECRET_KEY"]
        )
    if app.config.get("WIKI_SNAPSHOT"):
        app.config["COHERENT_CACHE_SNAPSHOT"] = snapshot_at(
            app.config["WIKI_SNAPSHOT"], app.config["SECRET_KEY"]
        )


def database_url(text: str) -> URL:
    """Read a database URL; one that names no driver gets the one this example installs."""
    url = make_url(text)
    return url.set(drivername=_DRIVERS.get(url.drivername, url.drivername))


def _engine_options(url: URL) -> dict[str, Any]:
    if url.get_backend_name() == "sqlite":
        return {"connect_args": {"timeout": _BUSY_SECONDS}}
    return {"pool_pre_ping": True}


def _kept_secret(instance: Path) -> str:
    """Return the key that signs sessions: made once, for its owner only, shared by all workers."""
    path = instance / "secret_key"
    with FileLock(instance / "secret_key.lock"):
        if not path.exists():
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(secrets.token_hex(32))
        return path.read_text()
