"""Bytes to the Python value they were made from by `encoding`.

The bytes may be anybody's.  Nothing named in them is imported or called but the registered classes;
what is allocated is at most some 150 times their length (an empty set is two bytes and takes 216);
sizes are never believed beyond the bytes that are left.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from .classes import PlainForm
from .encoding import (
    DATE,
    DECIMALS,
    DELTA,
    FLOAT,
    MAX_DEPTH,
    MAX_EQUAL_HASHES,
    MAX_FRACTION_BYTES,
    SAFE,
    TIME,
    ZONE_KEY,
    too_many_equal_hashes,
)


class Decoder:
    """Reads one value; *forms* are the registered classes by what stands for them.

    Any `Exception` that it raises means that the bytes are no value.
    """

    def __init__(self, forms: Mapping[str, PlainForm], data: bytes) -> None:
        self._forms = forms
        self._data = data
        self._at = 0
        self._depth = 0

    def decode(self) -> Any:
        """The value, if the bytes are exactly one."""
        value = self._read()
        if self._at != len(self._data):
            raise ValueError("something follows the value")
        return value

    def _read(self) -> Any:
        at = self._at
        self._at = at + 1
        return _READERS[self._data[at]](self)  # IndexError or KeyError

    def _take(self, size: int) -> bytes:
        at = self._at
        end = at + size
        if end > len(self._data):
            raise ValueError("the value is cut short")
        self._at = end
        return self._data[at:end]

    def _size(self) -> int:
        at = self._at
        size = self._data[at]
        self._at = at + 1
        return size if size < 255 else int.from_bytes(self._take(4), "big")

    def _sized(self) -> bytes:
        # `_take(_size())`, in one piece: most values are read by it.
        data = self._data
        at = self._at
        size = data[at]
        if size == 255:
            return self._take(self._size())
        end = at + 1 + size
        if end > len(data):
            raise ValueError("the value is cut short")
        self._at = end
        return data[at + 1 : end]

    def _count(self, least: int = 1) -> int:
        """A number of values, each of which takes *least* bytes or more."""
        count = self._size()
        if count * least > len(self._data) - self._at:
            raise ValueError("the value is cut short")
        return count

    # The types

    def _read_none(self) -> None:
        return None

    def _read_true(self) -> bool:
        return True

    def _read_false(self) -> bool:
        return False

    def _read_int(self) -> int:
        return int.from_bytes(self._sized(), "big", signed=True)

    def _read_float(self) -> float:
        (value,) = FLOAT.unpack(self._take(FLOAT.size))
        return float(value)

    def _read_str(self) -> str:
        return self._sized().decode("utf-8", "surrogatepass")

    def _read_bytes(self) -> bytes:
        return self._sized()

    def _read_decimal(self) -> Decimal:
        text = self._sized().decode("ascii")
        value = Decimal(text, DECIMALS)
        if DECIMALS.to_sci_string(value) != text:
            raise ValueError("a Decimal is written differently")
        return value

    def _read_fraction(self) -> Fraction:
        numerator, denominator = self._read_part(), self._read_part()
        value = Fraction(numerator, denominator)
        if value.denominator != denominator:
            raise ValueError("a Fraction is not in its lowest terms")
        return value

    def _read_part(self) -> int:
        if self._take(1) != b"i":
            raise ValueError("a Fraction consists of two ints")
        part = self._sized()
        if len(part) > MAX_FRACTION_BYTES:
            raise ValueError("a Fraction is too long")
        return int.from_bytes(part, "big", signed=True)

    def _read_uuid(self) -> UUID:
        is_safe = SAFE[self._take(1)[0]]
        return UUID(bytes=self._take(16), is_safe=is_safe)

    def _read_date(self) -> date:
        return date(*DATE.unpack(self._take(DATE.size)))

    def _read_time(self) -> time:
        hour, minute, second, micro, fold = TIME.unpack(self._take(TIME.size))
        return time(hour, minute, second, micro, self._read(), fold=fold)

    def _read_datetime(self) -> datetime:
        year, month, day = DATE.unpack(self._take(DATE.size))
        hour, minute, second, micro, fold = TIME.unpack(self._take(TIME.size))
        zone = self._read()
        return datetime(year, month, day, hour, minute, second, micro, zone, fold=fold)

    def _read_timedelta(self) -> timedelta:
        return timedelta(*DELTA.unpack(self._take(DELTA.size)))

    def _read_timezone(self) -> timezone:
        offset, name = self._read(), self._read()
        return timezone(offset) if name is None else timezone(offset, name)

    def _read_zone(self) -> ZoneInfo:
        key = self._sized().decode("ascii")
        if ZONE_KEY.fullmatch(key) is None:
            raise ValueError("no name of a time zone")
        return ZoneInfo(key)

    def _read_all(self) -> list[Any]:
        self._enter()
        read = self._read
        values = [read() for _ in range(self._count())]
        self._depth -= 1
        return values

    def _read_tuple(self) -> tuple[Any, ...]:
        return tuple(self._read_all())

    def _read_set(self) -> set[Any]:
        value: set[Any] = _distinct(self._read_all(), set)
        return value

    def _read_frozenset(self) -> frozenset[Any]:
        value: frozenset[Any] = _distinct(self._read_all(), frozenset)
        return value

    def _read_dict(self) -> dict[Any, Any]:
        self._enter()
        read = self._read
        items = [(read(), read()) for _ in range(self._count(2))]
        self._depth -= 1
        _check_hashes([key for key, _ in items])
        value = dict(items)
        if len(value) != len(items):
            raise ValueError("a key is repeated")
        return value

    def _enter(self) -> None:
        if self._depth >= MAX_DEPTH:
            raise ValueError("a value is nested too deeply")
        self._depth += 1

    def _read_instance(self) -> Any:
        self._enter()
        form = self._forms[self._sized().decode("utf-8", "surrogatepass")]
        value = form.from_plain(self._read())
        if type(value) is not form.cls:
            raise TypeError(f"from_plain returned {type(value)}, not {form.cls}")
        self._depth -= 1
        return value


def _distinct(keys: list[Any], kind: Callable[[list[Any]], Any]) -> Any:
    _check_hashes(keys)
    value = kind(keys)
    if len(value) != len(keys):
        raise ValueError("a key is repeated")
    return value


def _check_hashes(keys: list[Any]) -> None:
    # Before the dict or set is made: 100,000 ints that have one hash would take minutes
    # (test_keys_with_one_hash).
    if too_many_equal_hashes(keys):
        raise ValueError(f"more than {MAX_EQUAL_HASHES} keys have one hash")


_READERS: dict[int, Callable[[Decoder], Any]] = {
    ord(tag): read
    for tag, read in {
        "N": Decoder._read_none,
        "T": Decoder._read_true,
        "F": Decoder._read_false,
        "i": Decoder._read_int,
        "f": Decoder._read_float,
        "s": Decoder._read_str,
        "b": Decoder._read_bytes,
        "D": Decoder._read_decimal,
        "Q": Decoder._read_fraction,
        "U": Decoder._read_uuid,
        "d": Decoder._read_date,
        "t": Decoder._read_time,
        "e": Decoder._read_datetime,
        "m": Decoder._read_timedelta,
        "z": Decoder._read_timezone,
        "Z": Decoder._read_zone,
        "(": Decoder._read_tuple,
        "[": Decoder._read_all,
        "{": Decoder._read_dict,
        "<": Decoder._read_set,
        ">": Decoder._read_frozenset,
        "C": Decoder._read_instance,
    }.items()
}
