"""Serializers: a value to bytes and back.

`TypedSerializer` is the default: exact, and safe with bytes of any origin.  `PickleSerializer`
takes nearly everything, and runs what the bytes say; an `Envelope` takes it only with keys.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable
from typing import Any, Protocol

from ..errors import BadPayload, ConfigurationError, NotSerializable
from .classes import PlainForm, plain_forms
from .decoding import Decoder
from .encoding import PLAIN_TYPES, Encoder

__all__ = ["PickleSerializer", "PlainForm", "Serializer", "TypedSerializer"]


class Serializer(Protocol):
    """What an `Envelope` needs of a serializer.  It is shared by threads.

    .. versionadded:: 0.1.0
    """

    @property
    def name(self) -> str:
        """A short text that goes into each payload; another serializer has another one."""
        ...

    @property
    def safe(self) -> bool:
        """Whether `loads` may be given bytes that anybody wrote: it then runs nothing that they
        say, and allocates no more than a multiple of their length."""
        ...

    def dumps(self, value: Any) -> bytes:
        """The bytes of *value*; raises `SealingError`, or anything else, if there are none."""
        ...

    def loads(self, data: bytes) -> Any:
        """The value of *data*; raises `BadPayload`, or any other `Exception`, if there is none."""
        ...


class TypedSerializer:
    """Plain values of exactly their type, and registered classes; safe with anybody's bytes.

    It takes None, bool, int, float, str, bytes, Decimal, Fraction, UUID, date, time, datetime,
    timedelta, timezone, ZoneInfo, tuple, list, dict, set and frozenset.  What is read back is
    equal and of the same type all through.  Subclasses are refused, unless they are among
    *classes*: dataclasses, NamedTuples and Enums as they are, others as a `PlainForm`.  Two
    references to one object become two objects; a value that contains itself is refused.

    *max_bytes* is where `dumps` gives up.  No I/O, except that a ZoneInfo is looked for in the
    time zone database.

    .. versionadded:: 0.1.0
    """

    name = "typed"
    safe = True

    def __init__(
        self, classes: Iterable[type | PlainForm] = (), *, max_bytes: int = 16_000_000
    ) -> None:
        self._forms = plain_forms(classes, PLAIN_TYPES)
        self._by_name = {form.text: form for form in self._forms.values()}
        self._max_bytes = max_bytes

    def dumps(self, value: Any) -> bytes:
        """The bytes of *value*; raises `NotSerializable` or `TooLarge`."""
        return Encoder(self._forms, self._max_bytes).encode(value)

    def loads(self, data: bytes) -> Any:
        """The value of *data*; raises `BadPayload` with the reason "value", and nothing else."""
        try:
            return Decoder(self._by_name, data).decode()
        except Exception as error:  # RecursionError and what user code raises, too
            raise BadPayload("value", f"{type(error).__name__} at reading it") from error


class PickleSerializer:
    """Whatever `pickle` takes.  **Reading runs what the bytes say**, so it needs an `Envelope`
    with keys, and whoever has a key can run code in every process that reads.

    *protocol* is pickle's: 2 to 5.

    .. versionadded:: 0.1.0
    """

    name = "pickle"
    safe = False

    def __init__(self, *, protocol: int = 5) -> None:
        if protocol not in range(2, pickle.HIGHEST_PROTOCOL + 1):
            raise ConfigurationError(
                f"protocol= is one of pickle's, 2 to {pickle.HIGHEST_PROTOCOL}, not {protocol!r}"
            )
        self._protocol = protocol

    def dumps(self, value: Any) -> bytes:
        """The pickle of *value*; raises `NotSerializable`."""
        try:
            return pickle.dumps(value, self._protocol)
        except (
            Exception
        ) as error:  # PicklingError, TypeError, AttributeError, what user code raises
            kind = f"{type(value).__module__}.{type(value).__qualname__}"
            raise NotSerializable(f"{kind} cannot be pickled: {error}", type_name=kind) from error

    def loads(self, data: bytes) -> Any:
        """The value of *data*; raises `BadPayload` with the reason "value"."""
        try:
            return pickle.loads(data)
        except Exception as error:  # a class that is gone, or anything that its code raises
            raise BadPayload("value", f"{type(error).__name__} at reading it") from error
