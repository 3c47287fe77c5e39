"""The tables of the wiki. The cache needs nothing in them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import ForeignKey, Index, String, Text, UniqueConstraint
from sqlalchemy.dialects.mysql import MEDIUMTEXT
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from .names import MAX_NAME


class Base(DeclarativeBase):
    """The declarative base that Flask-SQLAlchemy builds its own upon."""


db = SQLAlchemy(model_class=Base)
if TYPE_CHECKING:  # type checkers do not see what Flask-SQLAlchemy makes of it
    Model = Base
else:
    Model = db.Model

# MariaDB compares text without regard to case and accents, and TEXT ends at 64 KiB there.
_EXACT: dict[str, Any] = {"mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin"}
LongText = Text().with_variant(MEDIUMTEXT(), "mysql", "mariadb")
Name = String(MAX_NAME)


def now() -> datetime:
    """Return the time in UTC, without a zone: what every database stores alike."""
    return datetime.now(UTC).replace(tzinfo=None)


class Page(Model):
    """A page as it stands. `version` counts its changes: an edit names the one it began from."""

    __tablename__ = "page"
    # A number given out once is never given again, so a page's history stays its own.
    __table_args__ = ({"sqlite_autoincrement": True, **_EXACT},)

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(Name, unique=True)
    version: Mapped[int] = mapped_column(default=1)
    text: Mapped[str] = mapped_column(LongText)
    redirect_to: Mapped[str | None] = mapped_column(Name)
    updated_at: Mapped[datetime] = mapped_column(default=now)


class Revision(Model):
    """What a page was after each change. Kept when the page is deleted: no text is lost."""

    __tablename__ = "revision"
    __table_args__ = (
        UniqueConstraint("page_id", "version"),
        Index("ix_revision_name", "name"),
        _EXACT,
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    page_id: Mapped[int]  # no foreign key: it outlives the page
    version: Mapped[int]
    action: Mapped[str] = mapped_column(String(10))  # created, edited, renamed, deleted
    name: Mapped[str] = mapped_column(Name)
    text: Mapped[str] = mapped_column(LongText, deferred=True)  # lists do without it
    summary: Mapped[str] = mapped_column(String(200), default="")
    created_at: Mapped[datetime] = mapped_column(default=now)


class Link(Model):
    """That a page links to a name, whether or not a page of that name exists."""

    __tablename__ = "link"
    __table_args__ = (Index("ix_link_target", "target"), _EXACT)

    source_id: Mapped[int] = mapped_column(ForeignKey("page.id"), primary_key=True)
    target: Mapped[str] = mapped_column(Name, primary_key=True)


class Site(Model):
    """The settings: one row, number 1."""

    __tablename__ = "site"
    __table_args__ = _EXACT

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    version: Mapped[int] = mapped_column(default=1)
    title: Mapped[str] = mapped_column(String(60))
    tagline: Mapped[str] = mapped_column(String(160))
    accent: Mapped[str] = mapped_column(String(7))
    front_page: Mapped[str] = mapped_column(Name)
    max_kib: Mapped[int]
