"""A Python value to bytes, each type with its own tag; `decoding` is the way back.

::

    value  = tag, contents
    N F T  None, False, True
    i      int: size, two's complement, the highest byte first
    f      float: eight bytes as IEEE 754 has it
    s b    str: size, UTF-8 (lone surrogates as if they were characters); bytes: size, bytes
    D Q    Decimal: size, its text; Fraction: two ints
    U      UUID: is_safe, sixteen bytes
    d t e  date; time; datetime: fields of fixed size, of the last two also the value tzinfo
    m      timedelta: days, seconds, microseconds
    z Z    timezone: the values offset, name (or None); ZoneInfo: size, key
    ( [    tuple, list: size, values
    { < >  dict: size, keys and values in turn; set, frozenset: size, values
    C      a registered class: size, name; the value of its plain form
    size   one byte, or 255 and four bytes

Only exact types are taken: what is a subclass here would be another type when it comes back.
Why not a library: decision NN of docs/decisions.md.
"""

from __future__ import annotations

import re
import struct
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from datetime import date, datetime, time, timedelta, timezone
from decimal import Context, Decimal, InvalidOperation
from fractions import Fraction
from typing import Any
from uuid import UUID, SafeUUID
from zoneinfo import ZoneInfo

from ..errors import CacheError, NotSerializable, TooLarge
from .classes import PlainForm

#: How many containers may be inside one another.
MAX_DEPTH = 100
#: A Fraction is brought to its lowest terms when it is made, which takes the square of its length.
MAX_FRACTION_BYTES = 1_024
#: How many keys of one dict or set may have the same hash: they cost the square of their number,
#: and an attacker can compute ints that do.
MAX_EQUAL_HASHES = 16

DATE = struct.Struct(">HBB")
TIME = struct.Struct(">BBBIB")
DELTA = struct.Struct(">iII")
FLOAT = struct.Struct(">d")
#: A zone is looked for in files: no other name gets that far.
ZONE_KEY = re.compile(r"[A-Za-z0-9_+-]+(?:/[A-Za-z0-9_+-]+){0,4}", re.ASCII)
SAFE = (SafeUUID.unknown, SafeUUID.safe, SafeUUID.unsafe)
#: The user's own may write a Decimal differently, and must not be touched.
DECIMALS = Context(capitals=1, traps=[InvalidOperation])


class Encoder:
    """Writes one value; *forms* are the registered classes."""

    def __init__(self, forms: Mapping[type, PlainForm], max_bytes: int) -> None:
        self._forms = forms
        self._max_bytes = max_bytes
        self._out = bytearray()
        #: The containers around what is being written, the outermost first.
        self._path: list[Any] = []

    def encode(self, value: Any) -> bytes:
        """The bytes of *value*; raises `NotSerializable` or `TooLarge`."""
        try:
            self._write(value)
        except RecursionError as error:  # the caller was deep already, or user code is
            raise self._refusal(type(value), "it is nested too deeply here") from error
        self._check_size()
        return bytes(self._out)

    def _write(self, value: Any) -> None:
        kind = type(value)
        write = _WRITERS.get(kind)
        if write is not None:
            write(self, value)
        elif kind in self._forms:
            self._write_instance(value)
        else:
            raise self._refusal(
                kind,
                "a TypedSerializer takes plain values of exactly their type, and classes "
                "registered with it: TypedSerializer(classes=[…])",
            )

    def _refusal(self, kind: type, why: str) -> NotSerializable:
        name = f"{kind.__module__}.{kind.__qualname__}"
        inside = " → ".join(type(container).__name__ for container in self._path[:10])
        where = f" (inside {inside})" if inside else ""
        return NotSerializable(f"{name}{where} is not serialisable: {why}", type_name=name)

    def _check_size(self) -> None:
        # While it is written: what is reached in many ways is written as often (2 ** 50 times for
        # fifty lists, each of which holds the next one twice).
        if len(self._out) > self._max_bytes:
            raise TooLarge(
                f"a value has more than {self._max_bytes} bytes, which is what "
                f"TypedSerializer(max_bytes=…) allows",
                size_bytes=len(self._out),
                max_bytes=self._max_bytes,
            )

    def _size(self, size: int) -> None:
        if size < 255:
            self._out.append(size)
        elif size < 1 << 32:
            self._out += b"\xff" + size.to_bytes(4, "big")
        else:
            raise TooLarge(
                f"a part of a value has {size} bytes or elements",
                size_bytes=size,
                max_bytes=self._max_bytes,
            )

    def _sized(self, tag: bytes, content: bytes) -> None:
        if len(content) < 255:
            self._out += b"%b%c%b" % (tag, len(content), content)
        else:
            self._out += tag
            self._size(len(content))
            self._out += content

    # The types

    def _write_none(self, value: None) -> None:
        self._out += b"N"

    def _write_bool(self, value: bool) -> None:
        self._out += b"T" if value else b"F"

    def _write_int(self, value: int) -> None:
        self._sized(b"i", value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))

    def _write_float(self, value: float) -> None:
        self._out += b"f" + FLOAT.pack(value)

    def _write_str(self, value: str) -> None:
        self._sized(b"s", value.encode("utf-8", "surrogatepass"))

    def _write_bytes(self, value: bytes) -> None:
        self._sized(b"b", value)

    def _write_decimal(self, value: Decimal) -> None:
        self._sized(b"D", DECIMALS.to_sci_string(value).encode("ascii"))

    def _write_fraction(self, value: Fraction) -> None:
        for part in (value.numerator, value.denominator):
            if part.bit_length() > 8 * MAX_FRACTION_BYTES - 8:
                raise self._refusal(Fraction, f"it has more than {MAX_FRACTION_BYTES - 1} bytes")
        self._out += b"Q"
        self._write_int(value.numerator)
        self._write_int(value.denominator)

    def _write_uuid(self, value: UUID) -> None:
        self._out += b"U%c" % SAFE.index(value.is_safe) + value.bytes

    def _write_date(self, value: date) -> None:
        self._out += b"d" + DATE.pack(value.year, value.month, value.day)

    def _write_time(self, value: time) -> None:
        self._out += b"t"
        self._write_clock(value)

    def _write_datetime(self, value: datetime) -> None:
        self._out += b"e" + DATE.pack(value.year, value.month, value.day)
        self._write_clock(value)

    def _write_clock(self, value: time | datetime) -> None:
        self._out += TIME.pack(
            value.hour, value.minute, value.second, value.microsecond, value.fold
        )
        self._write(value.tzinfo)

    def _write_timedelta(self, value: timedelta) -> None:
        self._out += b"m" + DELTA.pack(value.days, value.seconds, value.microseconds)

    def _write_timezone(self, value: timezone) -> None:
        self._out += b"z"
        # What it is pickled by: `tzname()` makes a name up where none was given.
        offset, name = (*value.__getinitargs__(), None)[:2]  # type: ignore[attr-defined]
        self._write(offset)
        self._write(name)

    def _write_zone(self, value: ZoneInfo) -> None:
        # One that did not come from the database by its key (`from_file`) would be another one.
        if not _is_found_by_its_key(value):
            raise self._refusal(ZoneInfo, "it is not what ZoneInfo(key) returns")
        self._sized(b"Z", value.key.encode("ascii"))

    def _write_all(self, tag: bytes, container: Any, values: Collection[Any]) -> None:
        self._enter(container)
        self._out += tag
        self._size(len(values))
        for value in values:
            self._write(value)
        self._path.pop()

    def _write_tuple(self, value: tuple[Any, ...]) -> None:
        self._write_all(b"(", value, value)

    def _write_list(self, value: list[Any]) -> None:
        # A copy: another thread that changed it would make the size a lie.
        self._write_all(b"[", value, value.copy())

    def _write_set(self, value: set[Any]) -> None:
        self._write_all(b"<", value, self._keys(value.copy()))

    def _write_frozenset(self, value: frozenset[Any]) -> None:
        self._write_all(b">", value, self._keys(value))

    def _write_dict(self, value: dict[Any, Any]) -> None:
        self._enter(value)
        items = self._keys(value.copy())
        self._out += b"{"
        self._size(len(items))
        for key, item in items.items():
            self._write(key)
            self._write(item)
        self._path.pop()

    def _keys(self, keys: Any) -> Any:
        if too_many_equal_hashes(keys):
            raise self._refusal(type(keys), f"more than {MAX_EQUAL_HASHES} keys have one hash")
        return keys

    def _enter(self, container: Any) -> None:
        if len(self._path) >= MAX_DEPTH:
            if len({id(outer) for outer in self._path}) < len(self._path):
                raise self._refusal(type(self._path[0]), "it contains itself")
            raise self._refusal(type(self._path[0]), f"it is more than {MAX_DEPTH} levels deep")
        self._path.append(container)
        self._check_size()

    def _write_instance(self, value: Any) -> None:
        form = self._forms[type(value)]
        self._enter(value)
        try:
            plain = form.to_plain(value)
        except CacheError:
            raise
        except Exception as error:
            raise self._refusal(type(value), f"its plain form cannot be made: {error}") from error
        self._sized(b"C", form.text.encode("utf-8", "surrogatepass"))
        self._write(plain)
        self._path.pop()


def _is_found_by_its_key(zone: ZoneInfo) -> bool:
    try:
        return ZONE_KEY.fullmatch(zone.key) is not None and ZoneInfo(zone.key) is zone
    except (TypeError, ValueError, KeyError, OSError):  # no key, or none of a known zone
        return False


def too_many_equal_hashes(keys: Collection[Any]) -> bool:
    """Whether more than `MAX_EQUAL_HASHES` of *keys* have one hash."""
    return len(keys) > MAX_EQUAL_HASHES and (
        max(Counter(map(hash, keys)).values()) > MAX_EQUAL_HASHES
    )


_WRITERS: dict[type, Callable[[Encoder, Any], None]] = {
    type(None): Encoder._write_none,
    bool: Encoder._write_bool,
    int: Encoder._write_int,
    float: Encoder._write_float,
    str: Encoder._write_str,
    bytes: Encoder._write_bytes,
    Decimal: Encoder._write_decimal,
    Fraction: Encoder._write_fraction,
    UUID: Encoder._write_uuid,
    date: Encoder._write_date,
    time: Encoder._write_time,
    datetime: Encoder._write_datetime,
    timedelta: Encoder._write_timedelta,
    timezone: Encoder._write_timezone,
    ZoneInfo: Encoder._write_zone,
    tuple: Encoder._write_tuple,
    list: Encoder._write_list,
    dict: Encoder._write_dict,
    set: Encoder._write_set,
    frozenset: Encoder._write_frozenset,
}

#: The types that need no registration.
PLAIN_TYPES = frozenset(_WRITERS)
