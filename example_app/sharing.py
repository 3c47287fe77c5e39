"""Where values go besides memory: which of the wiki's classes may, and under which key."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coherent_cache.sealing import TypedSerializer
from coherent_cache.snapshot import Snapshot

from .markup import Heading, Rendered, WikiLink
from .wiki import Document, NavigationGroup, Settings

if TYPE_CHECKING:
    from coherent_cache.tier import Tier

_CLASSES = [Document, Heading, NavigationGroup, Rendered, Settings, WikiLink]


def tier_at(url: str, secret: str) -> Tier:
    """Return the tier that `url` names (redis://, memcached://, file://).

    Values are written as plain data of these classes, and sealed with the secret: nobody else who
    can write to that server can make a page of this wiki.
    """
    from coherent_cache.tier import Tier  # needs dogpile.cache, which a wiki without one does not

    return Tier(url, application="wiki", serializer=TypedSerializer(_CLASSES), keys=[secret])


def snapshot_at(path: str, secret: str) -> Snapshot:
    """Return the file that values go to when a worker ends, and come back from."""
    return Snapshot(path, application="wiki", serializer=TypedSerializer(_CLASSES), keys=[secret])
