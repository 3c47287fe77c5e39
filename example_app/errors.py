"""Friendly pages for what goes wrong. None of them loses what somebody had typed."""

from __future__ import annotations

from flask import Flask, current_app, render_template, request
from flask.typing import ResponseReturnValue
from flask_wtf.csrf import CSRFError  # type: ignore[import-untyped]
from sqlalchemy.exc import DBAPIError
from werkzeug.exceptions import HTTPException, InternalServerError, RequestEntityTooLarge

from .models import db

_DRAIN_BYTES = 64 * 1024 * 1024
_TITLES = {
    400: ("That did not work", "The request could not be understood."),
    404: ("Nothing here", "There is no page at this address."),
    405: ("That did not work", "This address does not answer that kind of request."),
    413: (
        "That is too much at once",
        "What was sent is larger than this site takes. Go back: your browser still has your"
        " text, and it can be saved in parts.",
    ),
    500: (
        "Something broke",
        "This is our fault, not yours. The change was not saved; go back and try again.",
    ),
    503: (
        "The database does not answer",
        "Nothing is lost and nothing was changed. Try again in a moment.",
    ),
}


def init_app(app: Flask) -> None:
    """Register a page for each kind of error."""
    app.register_error_handler(HTTPException, show)
    app.register_error_handler(CSRFError, show_expired)
    app.register_error_handler(DBAPIError, show_database_down)


def show(error: HTTPException) -> ResponseReturnValue:
    """Show an HTTP error, with the layout unless the layout itself may be what failed."""
    if error.response is not None or error.code is None or error.code < 400:
        return error
    if isinstance(error, RequestEntityTooLarge):
        _drain()
    if isinstance(error, InternalServerError) and _is_from_driver(error.original_exception):
        return _page(503)
    return _page(error.code, error.description if error.code == 400 else None)


def show_expired(error: CSRFError) -> ResponseReturnValue:
    """Show that a form was too old, and give its text back."""
    return render_template("expired.html", text=request.form.get("text", "")), 400


def show_database_down(error: DBAPIError) -> ResponseReturnValue:
    """Show that the database failed; the details go to the log only."""
    current_app.logger.error("The database failed: %s", error.orig, exc_info=error)
    db.session.rollback()
    return _page(503 if error.connection_invalidated or not error.statement else 500)


def _is_from_driver(error: BaseException | None) -> bool:
    """Tell whether a driver raised this: a check of the cache goes past SQLAlchemy's wrapping."""
    driver = db.engine.dialect.loaded_dbapi
    return driver is not None and isinstance(error, driver.Error)


def _page(code: int, detail: str | None = None) -> ResponseReturnValue:
    title, explanation = _TITLES.get(code, ("That did not work", ""))
    template = "error.html" if code < 500 else "error_bare.html"
    html = render_template(template, code=code, title=title, explanation=detail or explanation)
    return html, code


def _drain() -> None:
    """Read what is still coming, within reason: a browser that is cut off shows no page at all."""
    stream = request.environ["wsgi.input"]
    left = min(request.content_length or 0, _DRAIN_BYTES)
    while left > 0 and (chunk := stream.read(min(left, 65536))):
        left -= len(chunk)
