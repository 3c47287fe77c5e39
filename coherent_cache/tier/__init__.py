"""The second tier: values shared between processes and hosts.

Needs dogpile.cache (``pip install coherent-cache[tier]``) and the client of the server that it uses
(``[redis]``, ``[memcached]``).  The serialisers are those of `coherent_cache.sealing`.
"""

from ..sealing import Envelope, Opened, PickleSerializer, PlainForm, Serializer, TypedSerializer
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
