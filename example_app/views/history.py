"""Looking back: recent changes, the history of a page, single revisions."""

from __future__ import annotations

from flask import Blueprint, abort, render_template, request
from flask.typing import ResponseReturnValue
from sqlalchemy import or_, select

from ..diff import compare
from ..markup import render
from ..models import Page, Revision, db
from ..wiki import wiki

bp = Blueprint("history", __name__)
_AT_ONCE = 50
_LARGEST = 2**31 - 1


@bp.get("/recent")
def recent() -> ResponseReturnValue:
    """List the latest changes of all pages. Not cached: it changes with every edit."""
    before = min(request.args.get("before", _LARGEST, type=int), _LARGEST)
    rows = db.session.scalars(
        select(Revision)
        .where(Revision.id < max(before, 0))
        .order_by(Revision.id.desc())
        .limit(_AT_ONCE + 1)
    ).all()
    older = rows[_AT_ONCE - 1].id if len(rows) > _AT_ONCE else None
    return render_template("recent.html", revisions=rows[:_AT_ONCE], older=older, pages=wiki.pages)


@bp.get("/history/<page:name>")
def of_page(name: str) -> ResponseReturnValue:
    """List the revisions of a page, and of those that had its name before."""
    page_id = db.session.scalar(select(Page.id).where(Page.name == name))
    revisions = db.session.scalars(
        select(Revision)
        .where(or_(Revision.name == name, Revision.page_id == (page_id or 0)))
        .order_by(Revision.id.desc())
        .limit(500)
    ).all()
    if not revisions:
        abort(404)
    return render_template(
        "history.html", name=name, revisions=revisions, exists=page_id is not None
    )


@bp.get(f"/revision/<int(max={_LARGEST}):revision_id>")
def revision(revision_id: int) -> ResponseReturnValue:
    """Show a page as it was, and what was changed then."""
    row = db.session.get(Revision, revision_id) or abort(404)
    earlier = db.session.scalar(
        select(Revision.text).where(
            Revision.page_id == row.page_id, Revision.version == row.version - 1
        )
    )
    return render_template(
        "revision.html",
        revision=row,
        rendered=render(row.text),
        changes=compare(earlier or "", row.text),
        current=db.session.scalar(select(Page.name).where(Page.id == row.page_id)),
    )
