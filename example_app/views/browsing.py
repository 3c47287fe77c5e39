"""Reading: the front page, articles, the page list and the search."""

from __future__ import annotations

from difflib import get_close_matches
from itertools import groupby

from flask import Blueprint, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy import select

from ..models import Page, Revision, db
from ..names import InvalidNameError, clean_name
from ..search import MAX_QUERY, find
from ..wiki import Document, linking_to, wiki

bp = Blueprint("browsing", __name__)


@bp.get("/")
def front() -> ResponseReturnValue:
    """Show the front page: an article like others, and what was changed last."""
    name = wiki.settings.front_page
    name = wiki.pages.get(name) or name  # it may have been renamed
    recent = db.session.scalars(select(Revision).order_by(Revision.id.desc()).limit(6)).all()
    document = _document(name)
    return render_template(
        "front.html", name=name, document=document, recent=recent, total=len(wiki.pages)
    )


@bp.get("/wiki/<page:name>")
def article(name: str) -> ResponseReturnValue:
    """Show an article: on a worker that knows it, without touching the tables of the wiki."""
    document = _document(name)
    if document is None:
        return _missing(name)
    came_from = _came_from()
    if document.redirect_to and came_from is None and "stay" not in request.args:
        return redirect(url_for(".article", name=document.redirect_to, came_from=name))
    backlinks = wiki.article(name).backlinks
    return render_template(
        "article.html", name=name, document=document, backlinks=backlinks, came_from=came_from
    )


@bp.get("/pages")
def index() -> ResponseReturnValue:
    """List every page under its first letter."""
    groups = [(letter, list(names)) for letter, names in groupby(wiki.pages, key=_letter)]
    return render_template("pages.html", groups=groups, pages=wiki.pages)


@bp.get("/search")
def search() -> ResponseReturnValue:
    """Search names and texts; an exact name comes first."""
    query = " ".join(request.args.get("q", "").replace("\0", "").split())[:MAX_QUERY]
    found = find(query) if query else []
    try:
        name = clean_name(query)
    except InvalidNameError:
        name = None
    exists = name in wiki.pages if name else True
    return render_template("search.html", query=query, found=found, name=name, exists=exists)


def _document(name: str) -> Document | None:
    # The index first: addresses that anyone makes up must not fill the cache with "nothing".
    return wiki.article(name).document if name in wiki.pages else None


def _came_from() -> str | None:
    try:
        return clean_name(request.args.get("came_from", ""))
    except InvalidNameError:
        return None


def _missing(name: str) -> ResponseReturnValue:
    by_folded = {known.casefold(): known for known in wiki.pages}
    close = get_close_matches(name.casefold(), by_folded, n=5, cutoff=0.6)
    last = db.session.scalar(
        select(Revision).where(Revision.name == name).order_by(Revision.id.desc()).limit(1)
    )
    html = render_template(
        "missing.html",
        name=name,
        similar=[by_folded[folded] for folded in close],
        backlinks=linking_to(name),  # not the cached ones, for the reason above
        last=last,
        now_called=last and db.session.scalar(select(Page.name).where(Page.id == last.page_id)),
    )
    return html, 404


def _letter(name: str) -> str:
    return name[0].upper() if name[0].isalpha() else "#"
