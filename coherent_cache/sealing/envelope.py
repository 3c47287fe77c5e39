"""A value sealed for one address, and opened only there.

::

    payload = head, seal, fields, value
    head    "coca" and the number of the format, flags (1: the value is compressed), the lengths of
            fields and of value: 4 bytes each
    seal    of head, fields and value: HMAC or keyed BLAKE2b with a key; without keys a digest,
            which notices accidents and nothing else
    fields  application, version, codec, key, variant, generation, and for each dependency its key
            and its generation; each 4 bytes of length and UTF-8
    value   what the serializer made of it

What is checked comes in this order, and each step runs only if those before have passed: the
lengths, the seal, the fields, then the value is decompressed, and read by the serializer.  Nothing
in a payload chooses an algorithm, a key or a serializer.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ..errors import BadPayload, ConfigurationError, NotSerializable, SealingError, TooLarge
from .seals import Seals
from .serializers import Serializer

#: Every reason that a `BadPayload` may have.
REASONS = (
    "format",  # no payload at all, or one of another format
    "truncated",
    "extended",
    "too-large",  # as it is, or when it is decompressed
    "mac",  # forged, damaged, or sealed with a key that is not among ours
    "checksum",  # damaged; without keys
    "application",  # these six: sealed for another one
    "version",
    "codec",
    "key",
    "variant",
    "generation",
    "fields",  # the fields are not what seal() writes
    "compression",
    "value",  # the serializer does not read it
)

_FORMAT = b"coca\x01"
_HEAD = struct.Struct(">5sBII")
_COMPRESSED = 1
_LENGTH = struct.Struct(">I")


class Opened(NamedTuple):
    """A value that was sealed, with the dependencies it was sealed with: key → generation."""

    value: Any
    dependencies: dict[str, str]


class Envelope:
    """Seals values into bytes for one address, and opens what was sealed for exactly that.

    - *application*, *version*: text that payloads of other applications, or of other releases of
      this one, do not have.
    - *serializer*: a `Serializer`, most often a `TypedSerializer`.
    - *keys*: secrets of 16 bytes or more, which authenticate payloads.  The first one seals, each
      of them opens, so a key is changed by putting the new one in front.  Text stands for its
      UTF-8 bytes: hexadecimal or base64 text is not decoded.  Without keys payloads are protected
      against accidents and mistaken addresses only.
    - *algorithm*: with keys that of an HMAC (``"sha256"``, ``"sha512"``, ``"sha3_256"``, …), or
      ``"blake2b"`` for BLAKE2b with a key; without keys that of the digest.
    - *compress_above*: the bytes of a value from which it is compressed with zlib if that makes it
      smaller, at *compression_level* (1 to 9); None: never.
    - *max_bytes*: the most that a payload may have, its value not compressed.

    Raises `ConfigurationError` for what does not fit, and for a serializer that is not safe
    without keys.  It holds no state, is shared by threads and survives a fork; no I/O.

    .. versionadded:: 0.1.0
    """

    def __init__(
        self,
        *,
        application: str,
        version: str = "",
        serializer: Serializer,
        keys: Sequence[bytes | str] = (),
        algorithm: str = "sha256",
        compress_above: int | None = 1_024,
        compression_level: int = 6,
        max_bytes: int = 1_000_000,
    ) -> None:
        if not isinstance(application, str) or not application:
            raise ConfigurationError("application= is a text that other applications do not have")
        if not isinstance(serializer.name, str) or not serializer.name:
            raise ConfigurationError("a serializer has a name= that goes into its payloads")
        if compress_above is not None and compress_above < 0:
            raise ConfigurationError(f"compress_above= is in bytes, or None: {compress_above!r}")
        if compression_level not in range(1, 10):
            raise ConfigurationError(f"compression_level= is 1 to 9, not {compression_level!r}")
        if not 0 < max_bytes < 1 << 32:
            raise ConfigurationError(f"max_bytes= is 1 to {(1 << 32) - 1}, not {max_bytes!r}")
        self._seals = Seals(keys, algorithm)
        if not self._seals.authentic and getattr(serializer, "safe", False) is not True:
            raise ConfigurationError(
                f"the serializer {serializer.name!r} may run what is in a payload, so that whoever "
                f"writes to the tier runs code here: add keys=[…] with a secret of 16 bytes or "
                f"more (python -c 'import secrets; print(secrets.token_hex(32))'), or take a "
                f"TypedSerializer"
            )
        self._serializer = serializer
        self._common = (
            _bytes_of("application", application),
            _bytes_of("version", version),
            _bytes_of("codec", serializer.name),
        )
        self._compress_above = compress_above
        self._compression_level = compression_level
        self._max_bytes = max_bytes

    def seal(
        self,
        key: str,
        variant: str,
        generation: str,
        dependencies: Mapping[str, str],
        value: Any,
    ) -> bytes:
        """The payload of *value* for *key*, *variant* and *generation*.

        *dependencies* are the keys it was computed from with the generation of each.  Raises
        `NotSerializable` or `TooLarge`, and `TypeError` for an address that is not text.
        """
        texts = [*self._common, *_address(key, variant, generation)]
        for name, at in dependencies.items():
            texts += (_bytes_of("dependency", name), _bytes_of("generation", at))
        fields = _packed(texts)
        data = self._dumped(value)
        size = self._around(len(fields)) + len(data)
        if size > self._max_bytes:
            raise TooLarge(
                f"a value of {key!r} takes {size} bytes, and max_bytes is {self._max_bytes}",
                size_bytes=size,
                max_bytes=self._max_bytes,
            )
        flags = 0
        if self._compress_above is not None and len(data) >= self._compress_above:
            smaller = zlib.compress(data, self._compression_level)
            if len(smaller) < len(data):
                flags, data = _COMPRESSED, smaller
        head = _HEAD.pack(_FORMAT, flags, len(fields), len(data))
        return b"".join((head, self._seals.make(head, fields, data), fields, data))

    def open(self, payload: bytes, *, key: str, variant: str, generation: str) -> Opened:
        """What was sealed in *payload*, if that is a payload of exactly this address.

        Raises `BadPayload`, whatever the bytes are, and `TypeError` for an address that is not
        text.
        """
        expected = _address(key, variant, generation)
        head, seal, fields, data = self._split(payload)
        if not self._seals.verify(seal, head, fields, data):
            raise BadPayload("mac" if self._seals.authentic else "checksum")
        dependencies = self._check_fields(fields, expected)
        if head[len(_FORMAT)] == _COMPRESSED:
            data = _decompressed(data, self._max_bytes - self._around(len(fields)))
        try:
            return Opened(self._serializer.loads(data), dependencies)
        except Exception as error:
            if isinstance(error, BadPayload) and error.reason == "value":
                raise
            raise BadPayload("value", f"{type(error).__name__} at reading it") from error

    def _dumped(self, value: Any) -> bytes:
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        try:
            data = self._serializer.dumps(value)
        except SealingError:
            raise
        except Exception as error:
            raise NotSerializable(
                f"the serializer {self._serializer.name!r} does not take a {kind}: {error}",
                type_name=kind,
            ) from error
        if not isinstance(data, bytes):
            raise NotSerializable(
                f"the serializer {self._serializer.name!r} made {type(data).__name__} of a {kind} "
                f"instead of bytes",
                type_name=kind,
            )
        return data

    def _around(self, fields_size: int) -> int:
        """The bytes of a payload that are not its value's."""
        return _HEAD.size + self._seals.size + fields_size

    def _split(self, payload: bytes) -> tuple[bytes, bytes, bytes, bytes]:
        """Head, seal, fields and value, by the lengths alone."""
        if not isinstance(payload, bytes):
            raise BadPayload("format", f"{type(payload).__name__} instead of bytes")
        if len(payload) > self._max_bytes:
            raise BadPayload("too-large", f"{len(payload)} bytes")
        start = payload[: len(_FORMAT)]
        if start != _FORMAT[: len(start)]:
            raise BadPayload("format")
        if len(payload) < self._around(0):
            raise BadPayload("truncated")
        head = payload[: _HEAD.size]
        _, flags, fields_size, data_size = _HEAD.unpack(head)
        if flags not in (0, _COMPRESSED):
            raise BadPayload("format", f"flags {flags}")
        fields_at = self._around(0)
        data_at = fields_at + fields_size
        if data_at + data_size != len(payload):
            raise BadPayload("truncated" if data_at + data_size > len(payload) else "extended")
        return (
            head,
            payload[_HEAD.size : fields_at],
            payload[fields_at:data_at],
            payload[data_at:],
        )

    def _check_fields(self, fields: bytes, expected: tuple[bytes, ...]) -> dict[str, str]:
        """The dependencies, if all the rest is as *expected*: the text itself, no digest of it."""
        if fields == _packed((*self._common, *expected)):
            return {}  # most have no dependencies
        texts = _texts(fields)
        names = ("application", "version", "codec", "key", "variant", "generation")
        if len(texts) < len(names) or len(texts) % 2:
            raise BadPayload("fields")
        for name, text, ours in zip(names, texts, (*self._common, *expected), strict=False):
            if text != ours:
                raise BadPayload(name)
        try:
            rest = [text.decode("utf-8", "surrogatepass") for text in texts[len(names) :]]
        except UnicodeDecodeError as error:
            raise BadPayload("fields") from error
        dependencies = dict(zip(rest[::2], rest[1::2], strict=True))
        if 2 * len(dependencies) != len(rest):
            raise BadPayload("fields", "a dependency is repeated")
        return dependencies


def _bytes_of(what: str, text: str) -> bytes:
    if not isinstance(text, str):
        raise TypeError(f"a payload's {what} is text, not {type(text).__name__}: {text!r}")
    return text.encode("utf-8", "surrogatepass")


def _address(key: str, variant: str, generation: str) -> tuple[bytes, ...]:
    return (
        _bytes_of("key", key),
        _bytes_of("variant", variant),
        _bytes_of("generation", generation),
    )


def _packed(texts: Iterable[bytes]) -> bytes:
    return b"".join([_LENGTH.pack(len(text)) + text for text in texts])


def _texts(fields: bytes) -> list[bytes]:
    texts = []
    at = 0
    while at < len(fields):
        if at + _LENGTH.size > len(fields):
            raise BadPayload("fields")
        (size,) = _LENGTH.unpack_from(fields, at)
        at += _LENGTH.size
        if at + size > len(fields):
            raise BadPayload("fields")
        texts.append(fields[at : at + size])
        at += size
    return texts


def _decompressed(data: bytes, max_bytes: int) -> bytes:
    """*data* decompressed, never to more than *max_bytes* (a bomb is a thousand times smaller)."""
    inflater = zlib.decompressobj()
    try:
        # One byte more than allowed shows that there are more.
        inflated = inflater.decompress(data, max(max_bytes, 0) + 1)
    except zlib.error as error:
        raise BadPayload("compression") from error
    if len(inflated) > max_bytes:
        raise BadPayload("too-large", f"more than {max_bytes} bytes when it is decompressed")
    if not inflater.eof or inflater.unused_data:
        raise BadPayload("compression")
    return inflated
