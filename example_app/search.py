"""The search: plain, in the database, good for some thousand pages."""

from __future__ import annotations

import re
from dataclasses import dataclass

from markupsafe import Markup, escape
from sqlalchemy import and_, or_, select

from .models import Page, db

MAX_QUERY = 200  # characters
_MOST = 50
_AROUND = 90  # characters of text shown on either side of what was found


@dataclass(frozen=True)
class Found:
    """A page that was found, and the place in its text."""

    name: str
    excerpt: Markup


def find(query: str) -> list[Found]:
    """Return the pages that hold every word of the query; those with it in their name first."""
    words = query.split()[:8]
    matches = and_(
        *(
            or_(Page.name.icontains(w, autoescape=True), Page.text.icontains(w, autoescape=True))
            for w in words
        )
    )
    rows = db.session.execute(
        select(Page.name, Page.text).where(matches, Page.redirect_to.is_(None))
    ).all()
    pattern = re.compile("|".join(re.escape(word) for word in words), re.IGNORECASE)
    rows = sorted(rows, key=lambda row: _rank(row.name, row.text, query, pattern))
    return [Found(row.name, _excerpt(row.text, pattern)) for row in rows[:_MOST]]


def _rank(name: str, text: str, query: str, pattern: re.Pattern[str]) -> tuple[bool, int, int]:
    in_name = len(pattern.findall(name))
    return name.casefold() != query.casefold(), -in_name, -len(pattern.findall(text))


def _excerpt(text: str, pattern: re.Pattern[str]) -> Markup:
    words = _plain(text)
    match = pattern.search(words)
    start = words.rfind(" ", 0, max(0, match.start() - _AROUND)) + 1 if match else 0
    end = (
        words.rfind(" ", start, start + 2 * _AROUND)
        if len(words) > start + 2 * _AROUND
        else len(words)
    )
    piece = words[start:end]
    marked, position = [], 0
    for hit in pattern.finditer(piece):
        marked += [escape(piece[position : hit.start()]), Markup("<mark>{}</mark>").format(hit[0])]
        position = hit.end()
    marked.append(escape(piece[position:]))
    return (
        Markup("… " if start else "")
        + Markup("").join(marked)
        + Markup(" …" if end < len(words) else "")
    )


def _plain(text: str) -> str:
    """Return about what a reader of the page sees, on one line."""
    unmarked = re.sub(
        r"\[\[(?:[^|\]]*\|)?([^\]]*)\]\]|^\s*[#>]+ |[`*|\\]|-{3,}", r"\1", text, flags=re.MULTILINE
    )
    return " ".join(unmarked.split())
