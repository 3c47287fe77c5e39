"""The shared tier, if there is one: which classes may go there, and under which key."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .markup import Heading, Rendered, WikiLink
from .wiki import Document, NavigationGroup, Settings

if TYPE_CHECKING:
    from dogpile.cache import CacheRegion

    from coherent_cache.tier import Tier


def tier_at(where: str | CacheRegion, secret: str) -> Tier:
    """Return the tier at `where`: a URL (redis://, memcached://, file://) or a region.

    Values are written as plain data of these classes, and sealed with the secret: nobody else who
    can write to that server can make a page of this wiki.
    """
    from coherent_cache.tier import Tier, TypedSerializer

    classes = [Document, Heading, NavigationGroup, Rendered, Settings, WikiLink]
    return Tier(where, application="wiki", serializer=TypedSerializer(classes), keys=[secret])
