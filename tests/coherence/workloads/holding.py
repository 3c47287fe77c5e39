"""Requests that hold a transaction open while others commit."""

from __future__ import annotations

import time

from .client import Client


async def hold(client: Client) -> None:
    """A report: it reads for long in one transaction."""
    async with client.request(), client.transaction() as work:
        await work.look()
        await _read_on(client)


async def hold_and_write(client: Client) -> None:
    """A slow form: it has read for long when it writes, and is slow to commit."""
    async with client.request(), client.transaction() as work:
        await work.look()
        await _read_on(client)
        for key in client.some_keys():
            await client.write(work, key)
            await client.invalidate(key)
        await _read_on(client, 0.3)


async def _read_on(client: Client, share: float = 1.0) -> None:
    end = time.monotonic() + client.random.random() * client.workload.longest * share
    while time.monotonic() < end:
        await client.read()
        await client.env.sleep(0.005)
