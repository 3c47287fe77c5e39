"""Keys: readable text that names one cached value, and never two.

A key is plain text.  A keyed attribute appends its own part in brackets, written so that two
parts of different type or content never give the same text::

    wiki.model.WikiSystem.pages
    wiki.model.Repository.metadata['trunk']
    wiki.model.Repository.metadata[5]
    wiki.model.Permission.allowed[('alice', 7)]

No hash takes part in the identity of a key (`key_hash` only finds rows of the table quickly).
"""

from __future__ import annotations

import datetime
import decimal
import enum
import fractions
import hashlib
import re
import uuid

from .errors import KeyTypeError

_UNREADABLE = re.compile("[\\\\'\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_UNSTORABLE = re.compile("[\x00\x1b\x80-\U0010ffff]")
_STORED_ESCAPE = re.compile("\x1b(?:([0-9a-f]{4})|U([0-9a-f]{8}))")


def make_key(prefix: str, *parts: object) -> str:
    """Return the key for *prefix* and *parts*: ``make_key("menu", "de", 3)`` is
    ``menu['de'][3]``.

    Raises `KeyTypeError` for a part with no stable text.
    """
    if not isinstance(prefix, str):
        raise KeyTypeError(f"a key starts with text, not {type(prefix).__name__}: {prefix!r}")
    return prefix + "".join([f"[{part_text(part)}]" for part in parts])


def part_text(part: object) -> str:
    """Return the text of one key part, the same in every process and release.

    str, int, bool, float, bytes, Decimal, Fraction, UUID, date, time, datetime, timedelta,
    Enum members and tuples of these have one; ``None`` and everything else raises
    `KeyTypeError`.  Text that differs only in its Unicode normal form is different text.
    """
    # First what is mostly there: the rest would give the same.
    if type(part) is str and part.isascii() and part.isprintable():
        if "'" not in part and "\\" not in part:
            return f"'{part}'"
    elif type(part) is int and part.bit_length() < 1024:
        return str(part)
    # Enum before int and str: an IntEnum member is its own key, not the integer's.
    if isinstance(part, enum.Enum):
        kind = type(part)
        return f"{kind.__module__}.{kind.__qualname__}({part_text(part.value)})"
    if isinstance(part, bool):
        return "True" if part else "False"
    if isinstance(part, int):
        # Python refuses to write very large numbers in decimal.
        return int.__repr__(part) if part.bit_length() < 1024 else f"{int(part):#x}"
    if isinstance(part, str):
        return "'" + _UNREADABLE.sub(_readable_escape, part) + "'"
    if isinstance(part, bytes):
        return "b'" + part.hex() + "'"
    if isinstance(part, float):
        return float.__repr__(part)
    if isinstance(part, tuple):
        return "(" + "".join(part_text(item) + "," for item in part) + ")"
    # datetime before date: it is a subclass of it.
    if isinstance(part, datetime.datetime | datetime.date | datetime.time):
        fold = getattr(part, "fold", 0)
        # A time alone has no offset in a zone that has more than one.
        zone = part.tzinfo if isinstance(part, datetime.time) and part.utcoffset() is None else None
        named = "" if zone is None else f" {zone}"
        return f"{_base_name(part)}({part.isoformat()}{named}{'~' if fold else ''})"
    if isinstance(part, datetime.timedelta):
        return f"timedelta({part.days},{part.seconds},{part.microseconds})"
    if isinstance(part, uuid.UUID | decimal.Decimal | fractions.Fraction):
        return f"{_base_name(part)}({part})"
    if part is None:
        raise KeyTypeError(
            "a key part is None: the attribute that names the value is not set "
            "(an ORM object that was not flushed yet has no primary key)"
        )
    raise KeyTypeError(
        f"a key part of type {type(part).__module__}.{type(part).__qualname__} has no stable "
        f"text: {part!r}; give the decorator an attribute or a callable that returns "
        f"text, a number, a UUID, a date, an Enum member or a tuple of these"
    )


def _base_name(part: object) -> str:
    """The name of the standard type: a subclass (pendulum, arrow, …) has the same text."""
    for kind in (
        datetime.datetime,
        datetime.date,
        datetime.time,
        uuid.UUID,
        decimal.Decimal,
        fractions.Fraction,
    ):
        if isinstance(part, kind):
            return kind.__name__
    raise AssertionError(part)  # pragma: no cover


def _readable_escape(match: re.Match[str]) -> str:
    char = match.group()
    return "\\" + char if char in "\\'" else f"\\u{ord(char):04x}"


def check_key(key: object) -> str:
    """Return *key* if it can be one (any text), else raise `KeyTypeError`."""
    if isinstance(key, str):
        return key
    raise KeyTypeError(
        f"a key is text, not {type(key).__name__}: {key!r}; make one with "
        f"coherent_cache.make_key('name', part, ...)"
    )


def to_stored(key: str) -> str:
    """Return *key* as the table holds it, in ASCII: what is not, NUL and U+001B are escaped by
    U+001B and four hexadecimal digits, or U and eight.

    A connection's character set may lack what a key has (``charset=latin1``): it would be stored or
    read as a question mark, and an invalidation lost.
    (Test: test_keys_of_a_connection_with_a_smaller_character_set.)
    """
    if key.isascii() and key.isprintable():
        return key
    return _UNSTORABLE.sub(_stored_escape, key)


def _stored_escape(match: re.Match[str]) -> str:
    code = ord(match.group())
    return f"\x1b{code:04x}" if code < 0x10000 else f"\x1bU{code:08x}"


def from_stored(text: str) -> str:
    """The inverse of `to_stored`."""
    if "\x1b" not in text:
        return text
    return _STORED_ESCAPE.sub(lambda match: chr(int(match.group(1) or match.group(2), 16)), text)


def key_hash(stored: str) -> int:
    """A signed 64-bit number to find the rows of a stored key by; equality is still the text's."""
    digest = hashlib.blake2b(stored.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)
