"""What every page has around it: settings, navigation, and the line at the foot."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flask import Flask, Response, current_app, url_for
from markupsafe import Markup

from .markup import Rendered
from .wiki import wiki


@dataclass(frozen=True)
class Foot:
    """How this request was answered."""

    worker: str
    hits: int
    #: None without a tier.
    tier_hits: int | None
    misses: int
    check: str


def init_app(app: Flask) -> None:
    """Give the templates what they need, and name the worker in a header too."""
    app.jinja_env.globals["foot"] = foot
    app.jinja_env.globals["asset"] = asset
    app.jinja_env.globals["frame"] = frame
    app.jinja_env.filters["article"] = article_html

    @app.after_request
    def name_worker(response: Response) -> Response:
        response.headers["X-Worker"] = worker_name()
        return response


def frame() -> Mapping[str, Any]:
    """Return the settings and the navigation; two hits on nearly every request."""
    return {"settings": wiki.settings, "navigation": wiki.navigation}


def foot() -> Foot:
    """Return the figures of the request so far: called by the last line of the layout."""
    view = current_app.extensions["coherent_cache"].manager.view
    shared = bool(current_app.config.get("COHERENT_CACHE_TIER"))
    if view is None:
        return Foot(worker_name(), 0, 0 if shared else None, 0, "none")
    return Foot(
        worker_name(),
        view.hits - view.tier_hits,
        view.tier_hits if shared else None,
        view.misses,
        duration(view.check_seconds),
    )


def worker_name() -> str:
    """Return the number that the server gave this process, if it did, and its process id."""
    number = os.environ.get("WIKI_WORKER")
    return f"{number} (pid {os.getpid()})" if number else f"pid {os.getpid()}"


def duration(seconds: float) -> str:
    """Write a time with the unit that suits it."""
    microseconds = seconds * 1_000_000
    return f"{microseconds:.0f} µs" if microseconds < 1000 else f"{microseconds / 1000:.1f} ms"


def article_html(rendered: Rendered) -> Markup:
    """Return an article's HTML, its links marked by what exists as of this request."""
    return rendered.html(wiki.pages, lambda name: url_for("browsing.article", name=name))


def asset(filename: str) -> str:
    """Return the address of a static file; it changes with the file, so browsers may keep it."""
    path = Path(str(current_app.static_folder), filename)
    version = _versions.get(filename)
    if version is None or current_app.debug:
        version = _versions[filename] = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    return url_for("static", filename=filename, v=version)


_versions: dict[str, str] = {}
