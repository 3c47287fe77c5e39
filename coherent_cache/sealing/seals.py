"""The seal of a payload: a code that only who has a key can make, or a digest without keys."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence

from ..errors import ConfigurationError

#: What a key has at least.
MIN_KEY_BYTES = 16
#: The shortest digest that is taken: SHA-224's.  MD5 and SHA-1 are shorter.
_MIN_DIGEST_BYTES = 28


class Seals:
    """Makes and verifies seals, of *size* bytes; *authentic* if there are keys."""

    def __init__(self, keys: Sequence[bytes | str], algorithm: str) -> None:
        self._algorithm = algorithm
        self.size = _digest_size(algorithm)
        if isinstance(keys, str | bytes):
            raise ConfigurationError("keys= is a list of keys, not one of them: keys=[key]")
        self._keys = [self._key_of(key) for key in keys]
        self.authentic = bool(self._keys)

    def _key_of(self, key: bytes | str) -> bytes:
        if not isinstance(key, str | bytes):
            raise ConfigurationError(f"a key is bytes or text, not {type(key).__name__}")
        taken = key.encode("utf-8", "surrogatepass") if isinstance(key, str) else key
        # The message must not show the key, and does not tell which of several it is by its text.
        if len(taken) < MIN_KEY_BYTES:
            raise ConfigurationError(
                f"a key has {MIN_KEY_BYTES} bytes or more, and this one has {len(taken)}: make one "
                f"with python -c 'import secrets; print(secrets.token_hex(32))'"
            )
        if self._algorithm == "blake2b" and len(taken) > hashlib.blake2b.MAX_KEY_SIZE:
            raise ConfigurationError(
                f"a key for blake2b has {hashlib.blake2b.MAX_KEY_SIZE} bytes or less, and this one "
                f"has {len(taken)}"
            )
        return taken

    def make(self, *parts: bytes) -> bytes:
        """The seal of *parts*, with the first key."""
        return self._seal(self._keys[0] if self._keys else None, parts)

    def verify(self, seal: bytes, *parts: bytes) -> bool:
        """Whether *seal* is that of *parts*, with any of the keys."""
        good = False
        # All keys, and in a time that does not tell where the first difference is.
        for key in self._keys or (None,):
            good |= hmac.compare_digest(self._seal(key, parts), seal)
        return good

    def _seal(self, key: bytes | None, parts: tuple[bytes, ...]) -> bytes:
        # Their lengths are in the first part: two lists of parts never give the same data.
        data = b"".join(parts)
        if key is None:
            return hashlib.new(self._algorithm, data, usedforsecurity=False).digest()
        if self._algorithm == "blake2b":
            return hashlib.blake2b(data, key=key).digest()
        return hmac.digest(key, data, self._algorithm)


def _digest_size(algorithm: str) -> int:
    if algorithm in hashlib.algorithms_available:
        try:
            size = hashlib.new(algorithm).digest_size
            hmac.digest(b"", b"", algorithm)
        except ValueError:  # switched off, or no fixed length
            size = 0
        if size >= _MIN_DIGEST_BYTES:
            return size
    raise ConfigurationError(
        f"algorithm={algorithm!r} is none that seals payloads: take 'sha256', 'sha512', "
        f"'sha3_256', 'blake2b' or another of hashlib's with {_MIN_DIGEST_BYTES} bytes or more"
    )
