"""The Flask extension: a `CacheManager` for each application, and a view for each request.

::

    db = SQLAlchemy()
    cache = CoherentCache()

    def create_app():
        app = Flask(__name__)
        db.init_app(app)
        cache.init_app(app, db)
        return app

Inside a request or an application context every cached attribute finds the manager of its own
application; objects need no ``cache_manager``.

Configuration, read when the manager is made:

============================== ================================================================
``COHERENT_CACHE_TABLE``       the table's name (``"cache"``)
``COHERENT_CACHE_SCHEMA``      the schema it is in (None: the connection's default)
``COHERENT_CACHE_BIND_KEY``    which of Flask-SQLAlchemy's engines (None: the default one)
``COHERENT_CACHE_MAX_ENTRIES`` how many values a process keeps at most (100,000)
``COHERENT_CACHE_MAX_BYTES``   how many bytes of values (None: any number)
``COHERENT_CACHE_SIZER``       a callable: a value in, its size in bytes out
``COHERENT_CACHE_FRESHNESS``   ``"strict"`` (the default), ``"one-host:PATH"``, seconds for
                               `Bounded`, or ``"push:2.0"``
``COHERENT_CACHE_PRUNE_KEEP``  how many rows the table keeps when it prunes itself (10,000)
``COHERENT_CACHE_PRUNE_EVERY`` after how many rows it does so (1,000; None: never)
``COHERENT_CACHE_TIER``        a `Tier`, or a URL such as ``redis://localhost/0`` (None)
``COHERENT_CACHE_SNAPSHOT``    a file for the values when the process ends (None), or a `Snapshot`
============================== ================================================================
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from flask import Flask, appcontext_pushed, current_app, has_app_context
from flask.cli import AppGroup
from sqlalchemy import Engine

from .commands import add_commands
from .errors import CacheError, ConfigurationError
from .freshness import freshness_of
from .manager import CacheManager
from .resolve import add_manager_source
from .wsgi import CacheMiddleware

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_NAME = "coherent_cache"
_OPTIONS = (
    "table",
    "schema",
    "max_entries",
    "max_bytes",
    "sizer",
    "freshness",
    "prune_keep",
    "prune_every",
    "tier",
    "snapshot",
)

#: The application whose request this is, also after Flask has popped its contexts: while the
#: body is streamed.
_serving: ContextVar[Flask | None] = ContextVar("coherent_cache.flask", default=None)


class CoherentCache:
    """The extension.  One object may serve several applications; each has its own manager.

    :param app: the application; without it call `init_app`.
    :param db: Flask-SQLAlchemy's object, whose engine the manager is for.
    :param engine: an SQLAlchemy `Engine` instead.
    :param manager: a `CacheManager` instead, made elsewhere and configured there.  Needed where
        several applications share an engine: one manager an engine.
    :param options: what `CacheManager` takes by keyword; the application's configuration goes
        before it.

    With none of *db*, *engine* and *manager* the ``db`` that was initialised for the application
    is used.
    """

    def __init__(
        self,
        app: Flask | None = None,
        db: Any = None,
        *,
        engine: Engine | None = None,
        manager: CacheManager | None = None,
        **options: Any,
    ) -> None:
        self._db = db
        self._engine = engine
        self._given = manager
        self._options = options
        self._caches: weakref.WeakSet[AppCache] = weakref.WeakSet()
        if app is not None:
            self.init_app(app)

    def init_app(
        self,
        app: Flask,
        db: Any = None,
        *,
        engine: Engine | None = None,
        manager: CacheManager | None = None,
    ) -> None:
        """Set up *app*: a view for each request, ``flask cache``, and its own manager.

        ``app.extensions["coherent_cache"]`` is then its `AppCache`.  Does no I/O.  With *db* the
        manager is made when the first application context begins, so it does not matter whether
        ``db.init_app`` comes before or after.  Raises `ConfigurationError` if *app* was set up
        already, or if more than one of *db*, *engine* and *manager* is given.
        """
        if _NAME in app.extensions:
            raise ConfigurationError(
                f"coherent_cache is initialised for the Flask application {app.name!r} already; "
                f"call init_app() once for each application"
            )
        if not any(given is not None for given in (db, engine, manager)):
            db, engine, manager = self._db, self._engine, self._given
        if sum(given is not None for given in (db, engine, manager)) > 1:
            raise ConfigurationError("CoherentCache takes one of db, engine and manager")
        cache = AppCache(app, db, engine, manager, self._options)
        app.extensions[_NAME] = cache
        self._caches.add(cache)
        app.wsgi_app = CacheMiddleware(  # type: ignore[method-assign]
            _Serving(app, app.wsgi_app), lambda: cache.manager
        )
        group = AppGroup("cache", help="Look after the table that keeps caches coherent.")
        add_commands(group, lambda: cache.manager)
        app.cli.add_command(group)
        add_manager_source(_manager_of_app)
        if engine is not None:
            _ = cache.manager
        # Flask-SQLAlchemy has no session outside an application context.  One that began before
        # its manager was there would not be found by `del`, and the invalidation would be made
        # before the commit.  (Test: test_the_manager_is_there_before_the_first_session.)
        appcontext_pushed.connect(cache.on_context, app)

    @property
    def manager(self) -> CacheManager:
        """The manager of the current application; without an application context that of the
        only application there is.

        Raises `ConfigurationError` if there is none, or no telling which.
        """
        app = _current_app()
        if app is not None:
            found = app.extensions.get(_NAME)
            if found is None:
                raise ConfigurationError(
                    f"coherent_cache is not initialised for the Flask application {app.name!r}: "
                    f"call cache.init_app(app, db) where the application is made"
                )
            return _manager(found)
        caches = list(self._caches)
        if not caches:
            raise ConfigurationError(
                "coherent_cache is not initialised: call cache.init_app(app, db) where the "
                "application is made"
            )
        if len(caches) > 1:
            raise ConfigurationError(
                "coherent_cache is initialised for several applications: work inside "
                "'with app.app_context():', or use app.extensions['coherent_cache'].manager"
            )
        return caches[0].manager


class AppCache:
    """The extension of one application: ``app.extensions["coherent_cache"]``."""

    def __init__(
        self,
        app: Flask,
        db: Any,
        engine: Engine | None,
        manager: CacheManager | None,
        options: dict[str, Any],
    ) -> None:
        self._app = app
        self._db = db
        self._engine = engine
        self._manager = manager
        self._options = options
        # Guards the making of the manager: two on one engine would each watch it.  No context
        # is pushed and no I/O is done while it is held.
        self._lock = threading.Lock()

    @property
    def manager(self) -> CacheManager:
        """The application's manager; made at its first use if need be.

        Raises `ConfigurationError` if the database is not initialised.
        """
        if self._manager is not None:
            return self._manager
        if self._engine is not None or _app_in_context() is self._app:
            return self._make_once()
        with self._app.app_context():  # Flask-SQLAlchemy gives its engines in one only
            return self._make_once()

    def on_context(self, *_: Any, **__: Any) -> None:
        """An application context begins: make the manager, if there is an engine for it yet."""
        if self._manager is None and self._has_engines():
            try:
                self._make_once()
            except CacheError:
                pass  # raising here would leave the context pushed; whoever needs it is told

    def _make_once(self) -> CacheManager:
        with self._lock:
            if self._manager is None:
                options = dict(self._options)
                for name in _OPTIONS:
                    key = f"COHERENT_CACHE_{name.upper()}"
                    if key in self._app.config:
                        options[name] = self._app.config[key]
                if options.get("freshness") is not None:
                    options["freshness"] = freshness_of(options["freshness"])
                self._manager = CacheManager(self._engine or self._find_engine(), **options)
            return self._manager

    def _has_engines(self) -> bool:
        registered = self._app.extensions.get("sqlalchemy")
        return registered is not None and (self._db is None or self._db is registered)

    def _find_engine(self) -> Engine:
        if not self._has_engines():
            raise ConfigurationError(
                f"coherent_cache has no database for the Flask application {self._app.name!r}: "
                f"call db.init_app(app), or give cache.init_app() an engine or a manager"
            )
        bind_key = self._app.config.get("COHERENT_CACHE_BIND_KEY")
        engines = self._app.extensions["sqlalchemy"].engines
        if bind_key not in engines:
            raise ConfigurationError(
                f"there is no engine for COHERENT_CACHE_BIND_KEY = {bind_key!r}: set "
                f"SQLALCHEMY_DATABASE_URI (None) or a key of SQLALCHEMY_BINDS"
            )
        engine: Engine = engines[bind_key]
        return engine


class _Serving:
    """Notes whose request it is."""

    def __init__(self, app: Flask, wsgi_app: WSGIApplication) -> None:
        self._app = app
        self._wsgi_app = wsgi_app

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        _serving.set(self._app)  # the context is the request's own: nothing to set back
        return self._wsgi_app(environ, start_response)


def _app_in_context() -> Flask | None:
    if not has_app_context():
        return None
    app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]
    return app


def _current_app() -> Flask | None:
    return _app_in_context() or _serving.get()


def _manager_of_app(instance: Any) -> CacheManager | None:
    """What cached attributes ask: the manager of the application they are used in."""
    app = _current_app()
    found = app.extensions.get(_NAME) if app is not None else None
    return None if found is None else _manager(found)


def _manager(cache: AppCache) -> CacheManager:
    return cache.manager
