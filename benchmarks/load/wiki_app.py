"""The example, a wiki, with another cache if the load wants one.

Its code is left as it is: the cached attributes are exchanged, its extension is replaced by one
that does nothing, and two addresses are added to write without a form.
"""

from __future__ import annotations

import json
import os
import tempfile
from types import SimpleNamespace
from typing import Any

from flask import Blueprint, Flask, abort, request
from sqlalchemy import make_url, select

import example_app.app
from example_app import edits
from example_app.models import Page, db
from example_app.seed import prepare as fill
from example_app.sharing import tier_at
from example_app.wiki import Article, Wiki

from . import variants
from .site import engine_options

_ATTEMPTS = 5
_SECRET = "of a load that is thrown away"


def create_app() -> Flask:
    """What gunicorn calls in each worker."""
    url = make_url(os.environ["LOAD_DATABASE"])
    if variants.chosen() not in variants.OURS:
        example_app.app.cache = _NoExtension()  # type: ignore[assignment]
    region = variants.region()
    app = example_app.app.create_app(
        {
            "DATABASE_URL": url.render_as_string(hide_password=False),
            "SQLALCHEMY_ENGINE_OPTIONS": engine_options(url),
            "INSTANCE_PATH": os.environ.get("LOAD_INSTANCE") or tempfile.gettempdir(),
            "SECRET_KEY": _SECRET,
            "COHERENT_CACHE_TIER": tier_at(region, _SECRET) if region is not None else None,
            "COHERENT_CACHE_FRESHNESS": variants.freshness(url.get_backend_name()),
            "WTF_CSRF_ENABLED": False,
        }
    )
    with app.app_context():
        variant = variants.switch(db.session, db.engine, (Wiki, Article))
    if variant is not None:
        app.before_request(variant.begin_request)
    app.register_blueprint(_writing())
    return app


class _NoExtension:
    """Stands for the extension of ours: no manager watches the engine."""

    def init_app(self, app: Flask, db: Any) -> None:
        manager = SimpleNamespace(view=None, create_table=lambda: None)
        app.extensions["coherent_cache"] = SimpleNamespace(manager=manager)


def _writing() -> Blueprint:
    blueprint = Blueprint("load", __name__)

    @blueprint.post("/load/edit/<page:name>")
    def edit(name: str) -> str:
        """Change a page; its new version."""
        for attempt in range(1, _ATTEMPTS + 1):
            base, text = _now(name)
            try:
                with edits.unit_of_work():
                    edits.save(base, text)
                break
            except edits.EditConflictError:  # somebody else was faster
                if attempt == _ATTEMPTS:
                    abort(409)
        return str(base.version + 1)

    @blueprint.post("/load/abort/<page:name>")
    def abort_edit(name: str) -> Any:
        """Change a page, show what it would look like, and leave it as it was."""
        base, text = _now(name)
        try:
            edits.save(base, f"{text}\n\nnever-committed\n")
            shown = Article(name).document
        except edits.EditConflictError:
            abort(409)
        finally:
            db.session.rollback()
        return str(shown.version if shown else 0)

    @blueprint.before_request
    def only_here() -> None:
        if request.remote_addr != "127.0.0.1":
            abort(403)

    return blueprint


def _now(name: str) -> tuple[edits.Base, str]:
    row = db.session.execute(
        select(Page.id, Page.version, Page.text).where(Page.name == name)
    ).one_or_none()
    if row is None:
        abort(404)
    found = edits.Base(row.id, row.version), row.text
    db.session.rollback()  # what is read next is not of this moment
    return found


def prepare() -> list[str]:
    """Create and fill the tables; the names of the pages."""
    app = create_app()
    if variants.chosen() == "trac.cache":
        from .trac_cache import create_table

        with app.app_context():
            create_table(db.engine)
    fill(app)
    with app.app_context():
        return list(db.session.scalars(select(Page.name).where(Page.redirect_to.is_(None))))


if __name__ == "__main__":
    print(json.dumps(prepare()))
