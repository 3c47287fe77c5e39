"""Writing: create, edit with preview, rename, delete. Each ends in one transaction."""

from __future__ import annotations

from flask import Blueprint, abort, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy import select

from .. import edits, forms
from ..diff import compare
from ..edits import Base, EditConflictError, NameTakenError, unit_of_work
from ..markup import render
from ..models import Page, Revision, db
from ..wiki import wiki

bp = Blueprint("editing", __name__)


@bp.get("/new")
def new() -> ResponseReturnValue:
    """Ask for the name of a new page, then go on to its editor."""
    if "name" not in request.args:
        return render_template("new.html", name="", error=None)
    name, error = forms.page_name(request.args["name"])
    if not error and name in wiki.pages:
        error = f"There is a page called “{name}” already."
    if error:
        return render_template("new.html", name=name, error=error), 400
    return redirect(url_for(".edit", name=name))


@bp.route("/edit/<page:name>", methods=["GET", "POST"])
def edit(name: str) -> ResponseReturnValue:
    """Show the editor, a preview in it, or save."""
    if request.method == "GET":
        return _editor(name, _opened(name))
    form = forms.PageForm.posted()
    if form.too_large(wiki.settings.max_kib):
        return _editor(name, form), 413
    if not form.text.strip():
        form.errors.append("A page needs a text. To remove a page, delete it.")
        return _editor(name, form), 400
    if request.form.get("action") == "preview":
        return _editor(name, form, preview=True)
    try:
        with unit_of_work():
            if form.base is None:
                edits.create(name, form.text, form.summary)
            else:
                edits.save(form.base, form.text, form.summary)
    except EditConflictError:
        return _conflict(name, form), 409
    flash("Saved. Every worker has it from its next request on.")
    return redirect(
        url_for("browsing.article", name=name, stay=1 if wiki.pages.get(name) else None)
    )


@bp.route("/rename/<page:name>", methods=["GET", "POST"])
def rename(name: str) -> ResponseReturnValue:
    """Give a page another name."""
    new_name, error, status = name, None, 200
    if request.method == "POST":
        base = forms.base() or abort(400)
        new_name, error = forms.page_name(request.form.get("new_name", ""))
        if not error and new_name == name:
            error = "That is its name already."
        if not error:
            try:
                with unit_of_work():
                    leave = "leave_redirect" in request.form
                    edits.rename(base, new_name, leave_redirect=leave, summary=forms.summary())
            except NameTakenError:
                error = f"There is a page called “{new_name}” already."
            except EditConflictError:
                error = (
                    "Somebody changed this page in the meantime. Have a look, then rename it again."
                )
            else:
                flash(f"Renamed from “{name}”.")
                return redirect(url_for("browsing.article", name=new_name))
        status = 400
    page = _page(name) or abort(404)
    return render_template(
        "rename.html", name=name, page=page, new_name=new_name, error=error
    ), status


@bp.route("/delete/<page:name>", methods=["GET", "POST"])
def delete(name: str) -> ResponseReturnValue:
    """Ask once more, then delete a page; its history is kept."""
    error = None
    if request.method == "POST":
        try:
            with unit_of_work():
                edits.remove(forms.base() or abort(400), forms.summary())
        except EditConflictError:
            error = "Somebody changed this page in the meantime. Have a look before you delete it."
        else:
            flash(f"Deleted “{name}”. Its history is kept, and it can be brought back.")
            return redirect(url_for("history.of_page", name=name))
    page = _page(name) or abort(404)
    backlinks = wiki.article(name).backlinks
    html = render_template("delete.html", name=name, page=page, backlinks=backlinks, error=error)
    return html, 409 if error else 200


def _page(name: str) -> Page | None:
    # From the database, not the cache: an editor wants the text and the version of one moment.
    return db.session.scalar(select(Page).where(Page.name == name))


def _opened(name: str) -> forms.PageForm:
    """Return the form as it is first shown: the page, an old revision of it, or nothing yet."""
    page = _page(name)
    base = Base(page.id, page.version) if page else None
    revision_id = request.args.get("revision", type=int)
    if revision_id and revision_id < 2**31 and (revision := db.session.get(Revision, revision_id)):
        return forms.PageForm(revision.text, f"text of {revision.created_at:%d %B %Y, %H:%M}", base)
    return forms.PageForm(page.text if page else "", "", base)


def _editor(name: str, form: forms.PageForm, *, preview: bool = False) -> str:
    rendered = render(form.text) if preview else None
    return render_template("edit.html", name=name, form=form, preview=rendered)


def _conflict(name: str, form: forms.PageForm) -> str:
    """Show both texts, and a form that saves upon the one that was saved first."""
    began_from = form.base
    theirs = db.session.get(Page, began_from.page_id) if began_from else None
    theirs = theirs or _page(name)
    original = began_from and db.session.scalar(
        select(Revision.text).where(
            Revision.page_id == began_from.page_id, Revision.version == began_from.version
        )
    )
    their_text = theirs.text if theirs else ""
    form.base = Base(theirs.id, theirs.version) if theirs else None
    return render_template(
        "conflict.html",
        name=theirs.name if theirs else name,
        was_called=name,
        form=form,
        theirs=theirs,
        their_changes=compare(original or "", their_text),
        both=compare(their_text, form.text),
    )
