"""The application's cached attributes: each shows the versions of the rows it was computed from.

Each has a synchronous and an asynchronous form, of one coroutine.
"""

from __future__ import annotations

from typing import Any, ClassVar

from sqlalchemy import select

from coherent_cache import cached

from ..history import Part
from .environment import Environment, current_session, drive, settled
from .tables import ItemRow, NoteRow, Row, item, note

#: How many items a sum is made of, and how many sums a total.
GROUP = 3


def _part(row: Row) -> Part:
    return Part(row.name, row.version, row.write_id)


class Attribute:
    """One object with a cached value.  Its number is that of an item."""

    #: What it is called in the history, in front of its number.
    prefix: ClassVar[str]

    def __init__(self, env: Environment, number: int) -> None:
        self.env = env
        self.number = number

    @property
    def name(self) -> str:
        return f"{self.prefix}{self.number}"

    @classmethod
    def of(cls, env: Environment, item_number: int) -> Attribute:
        """The one that shows the item of that number."""
        return cls(env, item_number)

    async def read(self) -> tuple[Part, ...]:
        """Read it as the application does."""
        form = AsyncForm if self.env.is_async else Form
        value: tuple[Part, ...] = await settled(form(self).value)
        return value

    async def invalidate(self) -> None:
        """``del`` it, in the open transaction or at once."""
        manager = self.env.cache_manager
        if self.env.is_async:
            await manager.ainvalidate(AsyncForm(self), "value")
        else:
            del Form(self).value

    async def compute(self) -> tuple[Part, ...]:
        raise NotImplementedError


class Form:
    """An attribute of a synchronous application."""

    def __init__(self, attribute: Attribute) -> None:
        self.attribute = attribute
        self.env = attribute.env
        self.name = attribute.name

    @cached("name")
    def value(self) -> tuple[Part, ...]:
        return drive(_computed(self.attribute))


class AsyncForm:
    """An attribute of an asynchronous application."""

    def __init__(self, attribute: Attribute) -> None:
        self.attribute = attribute
        self.env = attribute.env
        self.name = attribute.name

    @cached("name")
    async def value(self) -> tuple[Part, ...]:
        return await _computed(self.attribute)


async def _computed(attribute: Attribute) -> tuple[Part, ...]:
    await attribute.env.begin_load(attribute.name)
    value = await attribute.compute()
    await attribute.env.pause()
    return value


class Item(Attribute):
    """A row."""

    prefix = "i"

    async def compute(self) -> tuple[Part, ...]:
        session = current_session.get()
        if session is not None:
            return (_part(await settled(session.get_one(ItemRow, self.name))),)
        query = select(item.c.name, item.c.version, item.c.write_id)
        return (Part(*await self.env.one(query.where(item.c.name == self.name))),)


class Pair(Attribute):
    """A row of each of two tables, joined."""

    prefix = "pair"

    async def compute(self) -> tuple[Part, ...]:
        name = f"i{self.number}"
        session = current_session.get()
        if session is not None:
            objects = select(ItemRow, NoteRow).join(NoteRow, note.c.item == item.c.name)
            row = (await settled(session.execute(objects.where(item.c.name == name)))).one()
            return _part(row[0]), _part(row[1])
        query = select(
            item.c.name,
            item.c.version,
            item.c.write_id,
            note.c.name,
            note.c.version,
            note.c.write_id,
        ).join_from(item, note, note.c.item == item.c.name)
        row = await self.env.one(query.where(item.c.name == name))
        return Part(*row[:3]), Part(*row[3:])


class Sum(Attribute):
    """A value computed from the values of several items, themselves cached."""

    prefix = "sum"
    parts: ClassVar[type[Attribute]] = Item

    @classmethod
    def of(cls, env: Environment, item_number: int) -> Attribute:
        return cls(env, item_number // GROUP)

    async def compute(self) -> tuple[Part, ...]:
        shown: tuple[Part, ...] = ()
        for index in range(GROUP):
            number = self.number * GROUP + index
            if number < self.env.workload.items:
                shown += await self.parts(self.env, number).read()
        return shown


class Total(Sum):
    """A sum of sums."""

    prefix = "total"
    parts = Sum

    @classmethod
    def of(cls, env: Environment, item_number: int) -> Attribute:
        return cls(env, item_number // GROUP // GROUP)


#: What shows a row and is not computed from other cached attributes: all of it has to be
#: invalidated with the row.
SHOWN_BY: dict[str, tuple[type[Attribute], ...]] = {"i": (Item, Pair), "n": (Pair,)}


def shown_by(env: Environment, key: str) -> list[Attribute]:
    """The attributes to invalidate when the row called *key* is written."""
    kinds: Any = SHOWN_BY[key[0]]
    return [kind(env, int(key[1:])) for kind in kinds if kind in env.workload.shows]
