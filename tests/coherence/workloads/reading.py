"""Requests that only read."""

from __future__ import annotations

from .client import Client


async def read(client: Client) -> None:
    """A page that shows a few values."""
    async with client.request():
        for _ in range(client.random.randint(1, 6)):
            await client.read()
            await client.rest(0.05, 0.003)


async def script(client: Client) -> None:
    """Reads outside a request: each is as new as its call."""
    for _ in range(client.random.randint(1, 3)):
        client.log.add("request")
        client.log.count("checks")
        await client.read()
