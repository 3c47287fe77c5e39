"""The settings of the site, and the stylesheet that carries its colour."""

from __future__ import annotations

from dataclasses import asdict

from flask import Blueprint, Response, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from .. import edits, forms
from ..colour import PAPER, SLATE, readable
from ..edits import EditConflictError, unit_of_work
from ..wiki import wiki

bp = Blueprint("admin", __name__)


@bp.route("/settings", methods=["GET", "POST"])
def settings() -> ResponseReturnValue:
    """Show the settings, or change them."""
    if request.method == "GET":
        values = asdict(wiki.settings)
        return _form(forms.SettingsForm(values.pop("version"), values))
    form = forms.SettingsForm.posted()
    if form.errors:
        return _form(form), 400
    try:
        with unit_of_work():
            edits.configure(form.version, **form.values)
    except EditConflictError:
        form.version = wiki.settings.version
        return _form(form, theirs=asdict(wiki.settings)), 409
    flash("Saved. Every worker shows it from its next request on.")
    return redirect(url_for(".settings"))


@bp.get("/theme.css")
def theme() -> Response:
    """Return the accent colour as a stylesheet: inline styles are forbidden."""
    accent = wiki.settings.accent
    by_day = f":root {{ --accent: {readable(accent, PAPER)}; }}"
    by_night = f":root {{ --accent: {readable(accent, SLATE)}; }}"
    css = f"{by_day}\n@media (prefers-color-scheme: dark) {{ {by_night} }}\n"
    response = Response(css, mimetype="text/css")
    # Its address carries the version of the settings.
    response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
    return response


def _form(form: forms.SettingsForm, theirs: dict[str, object] | None = None) -> str:
    return render_template("settings.html", form=form, theirs=theirs, pages=wiki.pages)
