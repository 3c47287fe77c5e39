"""What mypy and pyright see of cached attributes; type-checked, never run."""

from typing import assert_type

from sqlalchemy import Connection, create_engine
from sqlalchemy.ext.asyncio import AsyncConnection

from coherent_cache import (
    CachedProperty,
    CachedSingletonProperty,
    CacheManager,
    View,
    cached,
    make_key,
)

manager = CacheManager(create_engine("sqlite://"))


class Component:
    cache_manager = manager
    name = "x"

    @cached
    def pages(self) -> frozenset[str]:
        return frozenset()

    @cached("name")
    def size(self) -> int:
        return 0

    @cached(once="host")
    def report(self) -> int:
        return 0

    @cached("name", once="cluster")
    def figures(self) -> list[int]:
        return []

    @cached(key=lambda self: self.name)
    def title(self) -> str | None:
        return None

    @cached(lambda self: self.name)
    def by_callable(self) -> bytes:
        return b""

    @cached
    async def menu(self) -> list[str]:
        return []


component = Component()
assert_type(component.pages, frozenset[str])
assert_type(component.size, int)
assert_type(component.title, str | None)
assert_type(component.by_callable, bytes)
assert_type(component.report, int)
assert_type(component.figures, list[int])
assert_type(Component.pages, CachedSingletonProperty[frozenset[str]])
assert_type(Component.size, CachedProperty[int])
del component.pages


async def asynchronous() -> None:
    assert_type(await component.menu, list[str])
    async with manager.begin() as connection:
        assert_type(connection, AsyncConnection)


with manager.begin() as begun:
    assert_type(begun, Connection)
with manager.request() as view:
    assert_type(view, View)
assert_type(manager.get("key", lambda: 3), int)
assert_type(make_key("a", 1), str)
