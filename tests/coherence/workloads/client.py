"""One thread or task of a worker: it reads, writes and invalidates, and writes that down."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ..history import Log, Part, current_log
from ..plan import Plan
from .attributes import Attribute, shown_by
from .environment import Environment, current_session
from .work import Work, transaction
from .workload import Kind


class Client:
    """What the kinds of requests are made with."""

    def __init__(self, plan: Plan, env: Environment, log: Log) -> None:
        self.plan = plan
        self.env = env
        self.workload = env.workload
        self.log = log
        self.random = random.Random(f"{plan.seed} {log.who}")
        self.requests = 0
        self._number = 0

    async def run(self, until: float) -> None:
        """Make one request after the other."""
        current_log.set(self.log)
        kinds: list[Kind] = list(self.workload.kinds)
        weights = list(self.workload.kinds.values())
        while time.monotonic() < until:
            (kind,) = self.random.choices(kinds, weights)
            try:
                await kind(self)
            except Exception as error:
                if not self.plan.explains(error):
                    raise
                # The transaction was rolled back, as an application would have to.
                self.log.add("error", type(getattr(error, "orig", None) or error).__name__)
            self.requests += 1

    # Choices

    def number(self) -> int:
        """The number of an item: mostly of a hot one."""
        return int(self.random.paretovariate(0.7)) % self.workload.items

    def some_keys(self, most: int = 0) -> list[str]:
        """Keys to write, in the one order that all transactions have, so that the rows' own locks
        do not deadlock."""
        count = self.random.randint(1, most or self.workload.keys)
        return sorted({self._key() for _ in range(count)})

    def _key(self) -> str:
        return f"{self.random.choice(self.workload.tables)}{self.number()}"

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    def new_id(self) -> str:
        """A name that nothing else has."""
        self._number += 1
        return f"{self.log.who}.{self._number}"

    async def rest(self, chance: float, longest: float) -> None:
        if self.chance(chance):
            await self.env.sleep(self.random.random() * longest)

    # Parts of requests

    @asynccontextmanager
    async def request(self) -> AsyncIterator[None]:
        """A request: one view, and one session where the application has such."""
        self.log.add("request")
        with self.env.cache_manager.request() as view:
            try:
                if not self.workload.orm:
                    yield
                else:
                    async with self.env.enter(self.env.new_session()) as session:
                        token = current_session.set(session)
                        try:
                            yield
                        finally:
                            current_session.reset(token)
            finally:
                self.log.count("checks", view.checks)
                if view.tier_hits:
                    self.log.count("tier-hits", view.tier_hits)
        self.log.add("end")

    async def read(self, key: str = "") -> None:
        """Read something that shows the row called *key*, or any."""
        number = int(key[1:]) if key else self.number()
        shows = self.workload.shows
        (kind,) = self.random.choices(list(shows), list(shows.values()))
        await self.read_one(kind.of(self.env, number))

    async def read_one(self, attribute: Attribute) -> None:
        parts = await attribute.read()
        self.log.add("read", attribute.name, parts)

    async def invalidate(self, key: str) -> None:
        """``del`` all that is computed from the row called *key*."""
        self.log.add("del", key)
        for attribute in shown_by(self.env, key):
            await attribute.invalidate()

    async def write(self, work: Work, key: str) -> None:
        write_id = self.new_id()
        version = await work.write(key, write_id)
        self.log.add("write", parts=[Part(key, version, write_id)])

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Work]:
        """A transaction that commits at the end of the block, or rolls back as it raises."""
        log = self.log
        try:
            async with transaction(self.env, self.random.randrange(4)) as work:
                log.add("begin")
                yield work
                log.add("commit")
        except BaseException:
            log.add("rollback")
            raise
        log.add("committed")
        log.count("commits")
