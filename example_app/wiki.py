"""What the wiki reads: every attribute here is computed once per process and kept coherent.

This is the file to read first. Nothing in it knows about other processes, versions or
time-outs: a method says how a value is computed from the database, ``@cached`` keeps it,
and ``edits.py`` says with ``del`` when it changes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select

from coherent_cache import cached

from .markup import Rendered, WikiLink, parse_link, render
from .models import Link, Page, Site, db

NAVIGATION = "Navigation"  # the page whose links are the navigation: edited like any other


@dataclass(frozen=True)
class Settings:
    """The settings of the site. `version` is what an editor of them began from."""

    version: int
    title: str
    tagline: str
    accent: str
    front_page: str
    max_kib: int


@dataclass(frozen=True)
class NavigationGroup:
    """A heading of the navigation and the links below it."""

    title: str
    links: tuple[WikiLink, ...]


@dataclass(frozen=True)
class Document:
    """A page, ready to be shown."""

    page_id: int
    version: int
    name: str
    redirect_to: str | None
    updated_at: datetime
    size: int  # characters
    rendered: Rendered


class Wiki:
    """The wiki as a whole: one component per application, its cached attributes are singletons."""

    @cached
    def settings(self) -> Settings:
        """The settings; every page reads them, next to none changes them."""
        site = db.session.execute(
            select(
                Site.version, Site.title, Site.tagline, Site.accent, Site.front_page, Site.max_kib
            )
        ).one()
        return Settings(*site)

    @cached
    def pages(self) -> Mapping[str, str | None]:
        """The page index: every name, in order, and where it redirects to if it does."""
        rows = db.session.execute(select(Page.name, Page.redirect_to)).all()
        return {row.name: row.redirect_to for row in sorted(rows, key=lambda row: _order(row.name))}

    @cached
    def navigation(self) -> tuple[NavigationGroup, ...]:
        """The links of the page called Navigation, under its headings."""
        text = db.session.scalar(select(Page.text).where(Page.name == NAVIGATION)) or ""
        return tuple(_read_navigation(text))

    def article(self, name: str) -> Article:
        """Return the component of one page; it may or may not exist."""
        return Article(name)


class Article:
    """One page. Its cached attributes are keyed: one value for each name."""

    def __init__(self, name: str) -> None:
        self.name = name

    @cached("name")
    def document(self) -> Document | None:
        """The page with its text rendered; None if there is no such page."""
        row = db.session.execute(
            select(Page.id, Page.version, Page.text, Page.redirect_to, Page.updated_at).where(
                Page.name == self.name
            )
        ).one_or_none()
        if row is None:
            return None
        return Document(
            page_id=row.id,
            version=row.version,
            name=self.name,
            redirect_to=row.redirect_to,
            updated_at=row.updated_at,
            size=len(row.text),
            rendered=render(row.text),
        )

    @cached("name")
    def backlinks(self) -> tuple[str, ...]:
        """The names of the pages that link here."""
        return linking_to(self.name)


def linking_to(name: str) -> tuple[str, ...]:
    """Return the names of the pages that link to a name, whether or not there is such a page."""
    sources = select(Page.name).join(Link, Link.source_id == Page.id).where(Link.target == name)
    return tuple(sorted(db.session.scalars(sources), key=_order))


def _order(name: str) -> tuple[str, str]:
    return name.casefold(), name


def _read_navigation(text: str) -> list[NavigationGroup]:
    groups: list[tuple[str, list[WikiLink]]] = [("", [])]
    for line in text.splitlines():
        if heading := re.match(r"#+\s+(.+?)\s*$", line):
            groups.append((heading[1], []))
        elif link := parse_link(re.sub(r"^\s*(?:[-*+]\s+)?", "", line)):
            groups[-1][1].append(link)
    return [NavigationGroup(title, tuple(links)) for title, links in groups if links]


wiki = Wiki()
