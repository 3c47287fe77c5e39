"""`site` under Flask."""

from __future__ import annotations

from flask import Flask

from coherent_cache.wsgi import CacheMiddleware

from .site import Site


def create_app() -> Flask:
    """What gunicorn calls in each worker."""
    app = Flask(__name__)
    site = Site()

    @app.before_request
    def begin() -> None:
        site.begin_request()

    @app.teardown_request
    def end(_: BaseException | None) -> None:
        site.end_request()

    app.get("/wiki/<name>")(site.show)
    app.post("/load/edit/<name>")(site.edit)
    app.post("/load/abort/<name>")(site.abort)
    if site.cache_manager is not None:
        app.wsgi_app = CacheMiddleware(app.wsgi_app, site.cache_manager)  # type: ignore[method-assign]
    return app
