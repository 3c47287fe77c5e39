"""The second tier: values shared between processes and hosts.

Needs dogpile.cache (``pip install coherent-cache[tier]``) and the client of the server that it uses
(``[redis]``, ``[memcached]``).
"""

from .chain import LayerStatistics
from .envelope import Envelope, Opened
from .serializers import PickleSerializer, PlainForm, Serializer, TypedSerializer
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
