"""Somebody who can write to the tier's server, and has no key.

He changes payloads, puts them where others stood, brings back old ones of the same key, and seals
values of his own with a key of his own.
"""

from __future__ import annotations

import socket
import struct
from collections import deque
from typing import Any

from ..history import Part
from ..tiers import TierPlace, make_region
from .striking import Striking

#: Where the fields of a payload begin: after its head and an HMAC-SHA256.
_FIELDS_AT = 14 + 32
_NAMES = ("application", "version", "codec", "key", "variant", "generation")


class Forge(Striking):
    """Puts other payloads at addresses that are in use."""

    rests = False

    def __init__(self, place: TierPlace, every: float) -> None:
        super().__init__(every)
        self._place = place
        #: Payloads by the key they were sealed for.
        self._known: dict[str, deque[bytes]] = {}

    def start(self, scene: Any) -> None:
        from coherent_cache.tier import Envelope, TypedSerializer
        from coherent_cache.tier.backends import adopt

        self._storage = adopt(make_region(self._place.text()))
        self._envelope = Envelope(
            application="coherent_cache",
            serializer=TypedSerializer(classes=[Part]),
            keys=["a key that the others do not have"],
        )
        super().start(scene)

    def strike(self) -> None:
        try:
            addresses = self._addresses()
            chosen = self.random.sample(addresses, min(len(addresses), 60))
            found = self._storage.get(chosen) if chosen else []
        except Exception:
            return  # it is away: somebody else's doing
        payloads = {a: p for a, p in zip(chosen, found, strict=True) if type(p) is bytes}
        forged: dict[str, bytes] = {}
        for address, payload in payloads.items():
            fields = _fields_of(payload)
            if fields is not None and self.random.random() < 0.5:
                known = self._known.setdefault(fields["key"], deque(maxlen=20))
                if payload not in known:
                    known.append(payload)
                forged[address] = self._forged(payload, fields, list(payloads.values()))
        if not forged:
            return
        self.scene.did("tier-forge", str(len(forged)))
        try:
            self._storage.set(forged)
        except Exception:
            return

    def _forged(self, payload: bytes, fields: dict[str, str], others: list[bytes]) -> bytes:
        way = self.random.randrange(6)
        if way == 0:
            at = self.random.randrange(len(payload))
            return (
                payload[:at]
                + bytes([payload[at] ^ 1 << self.random.randrange(8)])
                + payload[at + 1 :]
            )
        if way == 1:
            return self.random.choice(others)
        if way == 2:
            return self.random.choice([payload[:-1], payload + b"\0", payload[:50], b""])
        if way == 3:
            name = fields["key"].partition("'")[2].partition("'")[0]
            return self._envelope.seal(
                fields["key"], fields["variant"], fields["generation"], {},
                (Part(name, 1_000_000, "forged"),),
            )  # fmt: skip
        return self._known[fields["key"]][0]  # the oldest

    def _addresses(self) -> list[str]:
        backend = self._storage.backend
        server = self._place.server
        if server is None:
            with backend._dbm_file(False) as file:
                return [key.decode() for key in file.keys()]  # noqa: SIM118
        if server.kind == "redis":
            return [key.decode() for key in backend.reader_client.scan_iter(count=1_000)]
        return _memcached_keys(server.port)


def _memcached_keys(port: int) -> list[str]:
    with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
        connection.sendall(b"lru_crawler metadump all\r\n")
        answer = b""
        while not answer.endswith((b"END\r\n", b"BUSY currently processing crawler request\r\n")):
            more = connection.recv(65536)
            if not more:
                break
            answer += more
    words = [line.split(b" ")[0] for line in answer.splitlines()]
    return [word[4:].decode() for word in words if word.startswith(b"key=")]


def _fields_of(payload: bytes) -> dict[str, str] | None:
    """What a payload says that it is."""
    texts = []
    at = _FIELDS_AT
    try:
        for _ in _NAMES:
            (length,) = struct.unpack_from(">I", payload, at)
            texts.append(payload[at + 4 : at + 4 + length].decode())
            at += 4 + length
    except (struct.error, UnicodeDecodeError):
        return None
    return dict(zip(_NAMES, texts, strict=True))
