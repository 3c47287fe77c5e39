"""Page names: which ones are allowed, and how they look in an address.

A name may hold every printable character, so it cannot be put into a URL as it is:
browsers and proxies resolve ``..``, merge ``//`` and take ``?`` and ``#`` for
themselves, even when they arrive percent-encoded. The address of a page is therefore
a slug of its own, from which the name can be read back without loss.
"""

from __future__ import annotations

import re
import unicodedata
from urllib.parse import quote

from werkzeug.routing import BaseConverter, ValidationError

MAX_NAME = 120  # characters

_PLAIN = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-.,()!*+=:@$")
_ESCAPE = re.compile(r"~([0-9A-F]{2})")
_BIDI_CONTROLS = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


class InvalidNameError(ValueError):
    """The name cannot be used; the message says why, in words for the person typing."""


def clean_name(raw: str) -> str:
    """Return the one spelling of a name, or raise InvalidNameError.

    Two names that a reader cannot tell apart must not be two pages: blanks at the ends
    are cut, runs of blanks become one, and composed characters are used (NFC).
    """
    name = " ".join(unicodedata.normalize("NFC", raw).split())
    if not name:
        raise InvalidNameError("A page needs a name.")
    if len(name) > MAX_NAME:
        raise InvalidNameError(
            f"A name has at most {MAX_NAME} characters; this one has {len(name)}."
        )
    for char in name:
        if unicodedata.category(char) in {"Cc", "Cs", "Cn"} or char in _BIDI_CONTROLS:
            raise InvalidNameError(f"A name cannot hold the invisible character U+{ord(char):04X}.")
    return name


def slug_from_name(name: str) -> str:
    """Write a name for an address: blanks as ``_``, characters with a meaning there ``~XX``."""
    slug = "".join(_slug_char(char) for char in name)
    return f"~2E{slug[1:]}" if slug.startswith(".") else slug


def _slug_char(char: str) -> str:
    if char == " ":
        return "_"
    if char in _PLAIN or not char.isascii():
        return char
    return f"~{ord(char):02X}"


def name_from_slug(slug: str) -> str:
    """Read the name back; raises InvalidNameError for what `slug_from_name` cannot have written."""
    if "~" in _ESCAPE.sub("", slug):
        raise InvalidNameError("This address is not one of a page.")
    spaced = slug.replace("_", " ")
    return clean_name(_ESCAPE.sub(lambda match: chr(int(match[1], 16)), spaced))


class PageNameConverter(BaseConverter):
    """Lets routes say ``<page:name>`` and receive the name itself."""

    regex = "[^/]+"

    def to_python(self, value: str) -> str:
        """Turn a part of the address into a name; what is no name is not found."""
        try:
            return name_from_slug(value)
        except InvalidNameError as error:
            raise ValidationError(str(error)) from error

    def to_url(self, value: str) -> str:
        """Turn a name into a part of an address."""
        return quote(slug_from_name(value), safe="~-.,()!*+=:@$_")
