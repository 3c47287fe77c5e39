"""The application factory: puts the parts together and decides nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flask import Flask
from flask_wtf.csrf import CSRFProtect  # type: ignore[import-untyped]

from coherent_cache.flask import CoherentCache

from . import config as configuration
from . import errors, page_frame, security
from .models import db
from .names import PageNameConverter
from .views import admin, browsing, editing, history

cache = CoherentCache()
csrf = CSRFProtect()


def create_app(config: dict[str, Any] | None = None) -> Flask:
    """Build the wiki. `config` wins over everything; INSTANCE_PATH in it moves the folder."""
    config = dict(config or {})
    instance = config.pop("INSTANCE_PATH", None)
    app = Flask(__name__, instance_path=str(Path(instance).resolve()) if instance else None)
    configuration.configure(app, config)
    app.url_map.converters["page"] = PageNameConverter
    app.jinja_options = {"trim_blocks": True, "lstrip_blocks": True}

    db.init_app(app)
    cache.init_app(app, db)  # one view of the cache per request, and `flask cache ...`
    csrf.init_app(app)

    for part in (security, errors, page_frame):
        part.init_app(app)
    for blueprint in (browsing.bp, editing.bp, history.bp, admin.bp):
        app.register_blueprint(blueprint)
    return app
