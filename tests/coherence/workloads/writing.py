"""Requests that write."""

from __future__ import annotations

from .client import Client
from .work import Work

#: What is written and invalidated, in either order, perhaps with reads between.
_ORDERS = ("write del", "del write", "write read del", "write del write", "read del read write")


class Rollback(Exception):  # noqa: N818
    """A request changes its mind."""


async def write(client: Client) -> None:
    """A form is sent: some rows change, and the next page shows them."""
    async with client.request():
        for _ in range(client.random.randint(0, 2)):
            await client.read()
        keys = client.some_keys()
        try:
            async with client.transaction() as work:
                await client.rest(0.1, 0.01)
                for key in keys:
                    await _change(client, work, key)
                if client.chance(0.3):
                    await _savepoint(client, work, keys)
                await client.rest(0.2, 0.01)
                if client.chance(0.3):
                    raise Rollback
        except Rollback:
            client.log.add("rolled-back")
            client.log.count("rollbacks")
        if client.chance(0.5):
            for key in keys:
                await client.read(key)
        for _ in range(client.random.randint(0, 3)):
            await client.read()


async def write_blindly(client: Client) -> None:
    """A job: it writes and reads nothing, outside a request."""
    client.log.add("request")
    async with client.transaction() as work:
        for key in client.some_keys():
            await client.write(work, key)
            await client.invalidate(key)
    client.log.add("end")


async def _change(client: Client, work: Work, key: str) -> None:
    for step in client.random.choice(_ORDERS).split():
        if step == "write":
            await client.write(work, key)
        elif step == "read":
            await client.read(key)
        else:
            await client.invalidate(key)
    if client.chance(0.4):
        await client.read(key)


async def _savepoint(client: Client, work: Work, keys: list[str]) -> None:
    """Change the rows in a savepoint, which is released or rolled back."""
    label = client.new_id()
    savepoint = await work.savepoint()
    client.log.add("savepoint", label)
    for key in keys:
        await _change(client, work, key)
    if client.chance(0.2):
        await _savepoint(client, work, keys[:1])
    if client.chance(0.5):
        await savepoint.release()
        client.log.add("release", label)
    else:
        client.log.add("undo", label)
        await savepoint.undo()
    client.log.count("savepoints")
    for key in keys:
        await client.read(key)
