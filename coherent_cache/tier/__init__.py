"""The second tier: values shared between processes and hosts.

`Tier` needs dogpile.cache (``pip install coherent-cache[tier]``) and the client of the server that
it uses (``[redis]``, ``[memcached]``).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .envelope import Envelope, Opened
from .serializers import PickleSerializer, PlainForm, Serializer, TypedSerializer

if TYPE_CHECKING:
    from .chain import LayerStatistics
    from .tier import Tier, TierStatistics, as_tier
    from .urls import region_from_url

__all__ = [
    "Envelope",
    "LayerStatistics",
    "Opened",
    "PickleSerializer",
    "PlainForm",
    "Serializer",
    "Tier",
    "TierStatistics",
    "TypedSerializer",
    "as_tier",
    "region_from_url",
]

#: What needs dogpile.cache, and the module that it is in: sealing does without, as for a snapshot.
_NEEDS_DOGPILE = {
    "LayerStatistics": "chain",
    "Tier": "tier",
    "TierStatistics": "tier",
    "as_tier": "tier",
    "region_from_url": "urls",
}


def __getattr__(name: str) -> Any:
    if name in _NEEDS_DOGPILE:
        return getattr(importlib.import_module(f".{_NEEDS_DOGPILE[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
