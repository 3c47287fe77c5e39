"""What arrives in a form: cleaned, or refused in words that help."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from flask import abort, request

from .colour import is_colour
from .config import KIB
from .edits import Base
from .models import Site
from .names import InvalidNameError, clean_name

_LARGEST = 2**31 - 1
MAX_KIB = 1024
MIN_KIB = 8


@dataclass
class PageForm:
    """The form of the editor."""

    text: str
    summary: str
    base: Base | None  # None: the page is new
    errors: list[str] = field(default_factory=list)

    @classmethod
    def posted(cls) -> PageForm:
        """Read the form of this request."""
        return cls(text=_text("text"), summary=summary(), base=base())

    def too_large(self, max_kib: int) -> bool:
        """Tell whether the text is larger than the site allows, and note it as an error."""
        size = len(self.text.encode())
        if size <= max_kib * KIB:
            return False
        self.errors.append(
            f"This text has {size / KIB:.0f} KiB; a page has at most {max_kib}. Nothing was saved"
            " yet, and nothing is lost: shorten it here, or move a part to a page of its own."
        )
        return True


def base() -> Base | None:
    """Read which state of the page an edit began from."""
    page_id, version = number("page_id"), number("version")
    return Base(page_id, version) if page_id else None


def summary() -> str:
    """Read the one line that says what was changed."""
    return " ".join(_text("summary").split())[:200]


def number(name: str) -> int:
    """Read a number that the form itself had put there; anything else is a bad request."""
    text = request.form.get(name, "0") or "0"
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= _LARGEST):
        abort(400, f"The field {name!r} of the form is not a number.")
    return int(text)


def page_name(raw: str) -> tuple[str, str | None]:
    """Read a name somebody typed; returns it and what is wrong with it, if anything."""
    try:
        return clean_name(raw), None
    except InvalidNameError as error:
        return raw, str(error)


@dataclass
class SettingsForm:
    """The form of the settings. `errors` says for each field what is wrong with it."""

    version: int
    values: dict[str, Any]
    errors: dict[str, str] = field(default_factory=dict)

    @classmethod
    def posted(cls) -> SettingsForm:
        """Read and check the form of this request."""
        form = cls(
            number("version"), {name: _line(name) for name in ("title", "tagline", "accent")}
        )
        form.values["front_page"], front_page_error = page_name(_line("front_page"))
        form.values["max_kib"] = kib = _line("max_kib")
        checks: Mapping[str, str | None] = {
            "title": _length(form.values["title"], 1, Site.title.type.length),
            "tagline": _length(form.values["tagline"], 0, Site.tagline.type.length),
            "accent": None if is_colour(form.values["accent"]) else "Write it as #rrggbb.",
            "front_page": front_page_error,
            "max_kib": _range(kib, MIN_KIB, MAX_KIB),
        }
        form.errors = {name: error for name, error in checks.items() if error}
        if not form.errors:
            form.values["max_kib"] = int(kib)
        return form


def _text(name: str) -> str:
    """Read a text: line ends as on Unix, and without NUL, which PostgreSQL cannot keep."""
    return request.form.get(name, "").replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")


def _line(name: str) -> str:
    return " ".join(_text(name).split())


def _length(text: str, least: int, most: int) -> str | None:
    if len(text) < least:
        return "This cannot be empty."
    return f"At most {most} characters; this has {len(text)}." if len(text) > most else None


def _range(text: str, least: int, most: int) -> str | None:
    if text.isascii() and text.isdigit() and len(text) < 10 and least <= int(text) <= most:
        return None
    return f"A whole number from {least} to {most}."
