"""What the wiki writes: each function changes the data and ``del``s exactly what it changed.

Both happen in the transaction of ``db.session``, and `unit_of_work` ends it: with its
COMMIT, and only with it, every worker computes the deleted values anew. Two editors at
once are told apart in the database: a change names the version it began from in the
UPDATE itself, so of two that began from the same one, exactly one finds its row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from sqlalchemy import CursorResult, Result, delete, insert, select, update
from sqlalchemy.exc import DBAPIError, IntegrityError

from .markup import redirect_target, redirect_text, render
from .models import Link, Page, Revision, Site, db, now
from .wiki import NAVIGATION, wiki


class EditConflictError(Exception):
    """Somebody else was faster: the page or the settings are no longer what was edited."""


class NameTakenError(EditConflictError):
    """A page of that name exists already."""


class Base(NamedTuple):
    """The state of a page that an edit began from."""

    page_id: int
    version: int


@contextmanager
def unit_of_work() -> Iterator[None]:
    """Commit what the block wrote and invalidated, or nothing of it."""
    try:
        yield
        db.session.commit()
    except DBAPIError as error:
        db.session.rollback()
        if isinstance(error, IntegrityError):
            raise NameTakenError from error
        if _lost_a_race(error):
            raise EditConflictError from error
        raise
    except BaseException:
        db.session.rollback()
        raise


def create(name: str, text: str, summary: str = "") -> None:
    """Add a page. Raises NameTakenError, at the latest from `unit_of_work`."""
    page_id = _insert_page(name, text, summary)
    targets = _write_links(page_id, text)
    del wiki.pages
    _forget_page(name)
    _forget_backlinks(targets)


def save(base: Base, text: str, summary: str = "") -> None:
    """Replace the text of a page. Raises EditConflictError if it is not at `base` any more."""
    redirect_to = redirect_target(text)
    before = _claim(base, text=text, redirect_to=redirect_to, updated_at=now())
    _record(base, "edited", before.name, text, summary)
    old_targets = _targets(base.page_id)
    new_targets = _write_links(base.page_id, text)
    _forget_page(before.name)
    _forget_backlinks(old_targets ^ new_targets)
    if redirect_to != before.redirect_to:
        del wiki.pages  # the index says which pages redirect


def rename(base: Base, new_name: str, *, leave_redirect: bool, summary: str = "") -> None:
    """Give a page another name; a page that leads there may stay behind under the old one."""
    before = _claim(base, updated_at=now())
    old_name = before.name
    _make_room(new_name, for_page_called=old_name)
    db.session.execute(update(Page).where(Page.id == base.page_id).values(name=new_name))
    _record(base, "renamed", new_name, before.text, summary or f"was {old_name}")
    if leave_redirect:
        create(old_name, redirect_text(new_name), f"renamed to {new_name}")
    del wiki.pages
    _forget_page(old_name)
    _forget_page(new_name)
    _forget_backlinks(_targets(base.page_id))  # they name the pages they come from


def remove(base: Base, summary: str = "") -> None:
    """Delete a page, but keep its history. Raises EditConflictError if it is not at `base`."""
    before = _claim(base)
    targets = _targets(base.page_id)
    _record(base, "deleted", before.name, before.text, summary)
    _delete_page(base.page_id)
    del wiki.pages
    _forget_page(before.name)
    _forget_backlinks(targets)


def configure(version: int, **values: str | int) -> None:
    """Change the settings. Raises EditConflictError if they are not at `version` any more."""
    changed = db.session.execute(
        update(Site)
        .where(Site.id == 1, Site.version == version)
        .values(version=version + 1, **values)
    )
    if _row_count(changed) != 1:
        raise EditConflictError
    del wiki.settings


class _Before(NamedTuple):
    name: str
    text: str
    redirect_to: str | None


def _claim(base: Base, **values: object) -> _Before:
    """Take the page from `base` to the next version, or raise; the row stays locked till the end.

    What was read before the UPDATE is right if both found `base.version`: a page never has
    the same version twice.
    """
    row = db.session.execute(
        select(Page.name, Page.text, Page.redirect_to).where(
            Page.id == base.page_id, Page.version == base.version
        )
    ).one_or_none()
    claimed = db.session.execute(
        update(Page)
        .where(Page.id == base.page_id, Page.version == base.version)
        .values(version=base.version + 1, **values)
        .execution_options(synchronize_session=False)
    )
    if row is None or _row_count(claimed) != 1:
        raise EditConflictError
    return _Before(*row)


def _insert_page(name: str, text: str, summary: str) -> int:
    page = Page(name=name, text=text, redirect_to=redirect_target(text))
    db.session.add(page)
    db.session.flush()
    _record(Base(page.id, 0), "created", name, text, summary)
    return page.id


def _make_room(name: str, *, for_page_called: str) -> None:
    """Delete what only leads back to the page to be renamed: else no name could be taken back."""
    leads_back = select(Page.id, Page.version).where(
        Page.name == name, Page.redirect_to == for_page_called
    )
    if row := db.session.execute(leads_back).one_or_none():
        _claim(Base(*row))
        _forget_backlinks(_targets(row.id))
        _delete_page(row.id)


def _delete_page(page_id: int) -> None:
    db.session.execute(delete(Link).where(Link.source_id == page_id))
    db.session.execute(delete(Page).where(Page.id == page_id))


def _record(base: Base, action: str, name: str, text: str, summary: str) -> None:
    revision = {"page_id": base.page_id, "version": base.version + 1, "action": action}
    db.session.execute(
        insert(Revision).values(**revision, name=name, text=text, summary=summary[:200])
    )


def _targets(page_id: int) -> set[str]:
    return set(db.session.scalars(select(Link.target).where(Link.source_id == page_id)))


def _write_links(page_id: int, text: str) -> set[str]:
    targets = set(render(text).targets)
    db.session.execute(delete(Link).where(Link.source_id == page_id))
    if targets:
        rows = [{"source_id": page_id, "target": target} for target in sorted(targets)]
        db.session.execute(insert(Link), rows)
    return targets


def _forget_page(name: str) -> None:
    article = wiki.article(name)
    del article.document
    if name == NAVIGATION:
        del wiki.navigation


def _forget_backlinks(targets: Iterable[str]) -> None:
    for target in targets:
        article = wiki.article(target)
        del article.backlinks


def _row_count(result: Result[Any]) -> int:
    assert isinstance(result, CursorResult)
    return result.rowcount


def _lost_a_race(error: DBAPIError) -> bool:
    """Tell whether the database ended the transaction because of another one.

    MariaDB: 1020 the row changed since it was read, 1213 a deadlock, 1205 waited too
    long for a lock. PostgreSQL: 40001 serialization failure, 40P01 a deadlock.
    """
    original = error.orig
    if getattr(original, "sqlstate", None) in {"40001", "40P01"}:
        return True
    return bool(original and original.args and original.args[0] in {1020, 1205, 1213})
