"""Values with what they were valid under, as bytes: what stands in a snapshot.

::

    record = five lengths of 4 bytes, key, variant, generation, dependencies, data
    dependencies = for each: two lengths of 4 bytes, its key, its generation

*data* is what the serializer made of the value.  It is turned into a value only when somebody asks
for that.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ..tier.serializers import Serializer

_LENGTHS = struct.Struct(">IIIII")
_PAIR = struct.Struct(">II")


class Record(NamedTuple):
    """One value."""

    key: str
    variant: str
    generation: str
    #: The keys it was computed from besides its own, and their generations.
    dependencies: Mapping[str, str]
    data: bytes

    @property
    def slot(self) -> tuple[str, str]:
        """Where it belongs."""
        return self.key, self.variant

    def is_current(self, generations: Mapping[str, str]) -> bool:
        """Whether nothing that it was computed from has another generation by now."""
        return generations.get(self.key) == self.generation and all(
            generations.get(key) == generation for key, generation in self.dependencies.items()
        )

    def encoded(self) -> bytes:
        """Its bytes."""
        others = []
        for key, generation in self.dependencies.items():
            pair = _encoded(key), _encoded(generation)
            others += [_PAIR.pack(*map(len, pair)), *pair]
        parts = (*map(_encoded, self[:3]), b"".join(others), self.data)
        return b"".join((_LENGTHS.pack(*map(len, parts)), *parts))


def keys_of(records: Iterable[Record]) -> set[str]:
    """All keys that the validity of *records* depends on."""
    return {key for record in records for key in (record.key, *record.dependencies)}


class Records:
    """A serializer for an `Envelope`: a list of encoded records in, a list of `Record` out."""

    def __init__(self, serializer: Serializer) -> None:
        self.name = f"snapshot of {serializer.name}"
        #: Nothing is run or made of a value while the file is read; but later it is.
        self.safe = getattr(serializer, "safe", False) is True

    def dumps(self, value: Iterable[bytes]) -> bytes:
        """All of them."""
        return b"".join(value)

    def loads(self, data: bytes) -> list[Record]:
        """The records, if *data* is nothing else; raises `ValueError` and `struct.error`."""
        found = []
        at = 0
        while at < len(data):
            lengths = _LENGTHS.unpack_from(data, at)
            at += _LENGTHS.size
            parts = []
            for length in lengths:
                parts.append(_slice(data, at, length))
                at += length
            key, variant, generation = map(_decoded, parts[:3])
            found.append(Record(key, variant, generation, _pairs(parts[3]), parts[4]))
        return found


def _pairs(data: bytes) -> dict[str, str]:
    found = {}
    at = 0
    while at < len(data):
        first, second = _PAIR.unpack_from(data, at)
        at += _PAIR.size
        key = _decoded(_slice(data, at, first))
        found[key] = _decoded(_slice(data, at + first, second))
        at += first + second
    return found


def _slice(data: bytes, at: int, length: int) -> bytes:
    if at + length > len(data):
        raise ValueError("a record is cut short")
    return data[at : at + length]


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _decoded(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")
