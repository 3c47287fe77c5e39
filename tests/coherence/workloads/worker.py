"""A worker process: gets ready, is told until when, and runs its threads or tasks."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from ...databases import Database
from .. import broken
from ..faults import broken as broken_by_faults
from ..history import Log
from ..plan import Plan
from ..tiers import make_tier
from .attributes import Item
from .catalogue import WORKLOADS
from .client import Client
from .environment import Environment, drive
from .tables import make_async_engine, make_engine
from .workload import Workload


def workload_of(plan: Plan) -> Workload:
    """The workload that the plan names, with what the plan changes of it."""
    found = WORKLOADS[plan.workload]
    return replace(found, items=plan.items) if plan.items else found


@dataclass(frozen=True)
class Inside:
    """What `Plan.within` is given of a worker."""

    plan: Plan
    env: Environment
    name: str
    #: Where the logs are.
    logs: Path
    #: When the work ends (`time.monotonic`).
    until: float


class Place:
    """What a worker has of those who started it."""

    def __init__(
        self, plan: Plan, place: int, life: int, logs: Path, pipe: Connection, done: Any
    ) -> None:
        self.plan = plan
        self.workload = workload_of(plan)
        self.name = f"{place}.{life}"
        self.logs = logs
        self.database = Database(plan.kind, plan.url)
        self._place = place
        self._pipe = pipe
        self._done = done

    @property
    def engine_options(self) -> dict[str, Any]:
        return {"pool_size": self.plan.threads + 2, **self.plan.engine}

    @contextlib.contextmanager
    def within(self, env: Environment, until: float) -> Iterator[None]:
        """What the plan wraps around the work."""
        with contextlib.ExitStack() as stack:
            for wrap in self.plan.within:
                stack.enter_context(wrap(Inside(self.plan, env, self.name, self.logs, until)))
            yield

    def until(self) -> float:
        """Be ready; return when the time is over."""
        self._pipe.send("ready")
        until: float = self._pipe.recv()
        return until

    def progress(self, clients: list[Client]) -> None:
        self._done[self._place] = sum(client.requests for client in clients)

    def clients(self, env: Environment) -> list[Client]:
        names = [f"{self.name}.{number}" for number in range(self.plan.threads)]
        return [Client(self.plan, env, Log(name, self.logs / f"{name}.log")) for name in names]

    def environment(self, engine: Any) -> Environment:
        options = {"max_entries": 1_000, **self.plan.options}
        if self.plan.tier:
            options["tier"] = make_tier(self.plan.tier)
        return Environment(self.workload, engine, **options)

    async def warm_up(self, env: Environment) -> None:
        """What is imported and connected to at first is not part of the run."""
        try:
            await Item(env, 0).read()
        except Exception as error:
            if not self.plan.explains(error):
                raise


def work(plan: Plan, place: int, life: int, logs: Path, pipe: Connection, done: Any) -> None:
    """The whole life of a worker."""
    try:
        if plan.broken:
            {**broken.CACHES, **broken_by_faults.CACHES}[plan.broken]()
        here = Place(plan, place, life, logs, pipe, done)
        if here.workload.is_async:
            asyncio.run(_run_tasks(here))
        else:
            _run_threads(here)
    except BaseException:
        (logs / f"{place}.{life}.error").write_text(traceback.format_exc())
        sys.exit(1)


def _run_threads(here: Place) -> None:
    plan = here.plan
    engine = make_engine(here.database, plan.isolation, **here.engine_options)
    env = here.environment(engine)
    drive(here.warm_up(env))
    clients = here.clients(env)
    until = here.until()
    failed: list[BaseException] = []

    def body(client: Client) -> None:
        try:
            drive(client.run(until))
        except BaseException as error:
            failed.append(error)

    running = [threading.Thread(target=body, args=(client,)) for client in clients]
    with here.within(env, until):
        for one in running:
            one.start()
        for one in running:
            while one.is_alive():
                one.join(0.2)
                here.progress(clients)
    if failed:
        raise failed[0]
    env.cache_manager.close()
    here.database.dispose()


async def _run_tasks(here: Place) -> None:
    plan = here.plan
    engine = make_async_engine(here.database, plan.isolation, **here.engine_options)
    env = here.environment(engine)
    await here.warm_up(env)
    clients = here.clients(env)
    until = here.until()
    with here.within(env, until):
        async with asyncio.TaskGroup() as group:
            tasks = {group.create_task(client.run(until)) for client in clients}
            while tasks:
                _, tasks = await asyncio.wait(tasks, timeout=0.2)
                here.progress(clients)
    await env.cache_manager.aclose()
    await engine.dispose()
