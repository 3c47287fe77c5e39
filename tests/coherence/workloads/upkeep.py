"""What is done beside reading and writing."""

from __future__ import annotations

from .client import Client
from .environment import settled


async def invalidate(client: Client) -> None:
    """An invalidation by itself: nothing was written, and what is read is at least as new."""
    async with client.request():
        (key,) = client.some_keys(1)
        await client.read(key)
        await client.invalidate(key)
        await client.read(key)


async def prune(client: Client) -> None:
    """The ledger is pruned."""
    manager = client.env.cache_manager
    method = manager.aprune if client.env.is_async else manager.prune
    await settled(method(keep=client.workload.keep, batch=50))
    client.log.count("prunings")
