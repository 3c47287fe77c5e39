"""The tier does not make the process wait for itself, nor for its parent."""

from __future__ import annotations

import os
import threading
from typing import Any

import pytest
from sqlalchemy import select

from coherent_cache import cached
from coherent_cache.tier import Tier

from ..guarantees.helpers import in_thread
from ..guarantees.test_g10_good_neighbour import SECONDS, _can_read, begin_with
from ..workers import PageText, Worker, page, put
from .shelf import Shelf


class Holder:
    """A value whose retriever leaves a transaction open, as that of a web framework's session."""

    def __init__(self, env: Worker, after: Any) -> None:
        self.env = env
        self.after = after
        self.connection: Any = None

    @cached
    def names(self) -> frozenset[str]:
        self.connection = self.env.engine.connect()
        found = frozenset(self.connection.scalars(select(page.c.name)))
        self.after()
        return found


@pytest.mark.on("sqlite-journal")
def test_put_beside_a_transaction_that_the_retriever_began(worker: Worker) -> None:
    """
    reader   its retriever begins a transaction and reads: a SHARED lock
    writer   commits: waits for the reader, and lets no new reader in
    reader   would put the value: a second connection would wait for the writer, who waits for us
    """
    reading = worker.database.engine(connect_args={"timeout": 3})
    begin_with(reading, "BEGIN")
    reader = Worker(worker.database, engine=reading, tier=Shelf())
    writer = Worker(worker.database, engine=worker.database.engine(connect_args={"timeout": 1}))
    writer.write("Front", "old")
    reader.cache_manager.core.access.generations(["so that there is a mark"], ())
    committing: list[Any] = []

    def commit() -> None:
        with writer.cache_manager.begin() as connection:
            put(connection, "Front", "new")
            del PageText(writer, "Front").text

    def after() -> None:
        committing.append(in_thread(commit))
        while not committing[0].done() and _can_read(worker):
            pass  # until the writer is waiting for the reader

    holder = Holder(reader, after)
    with reader.cache_manager.request():
        assert holder.names == {"Front"}
        holder.connection.close()
    committing[0].result(SECONDS)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_forked_while_another_thread_counts() -> None:
    """The parent's thread holds the lock of the tier's counts; the child has none to let go."""
    from dogpile.cache import make_region

    tier = Tier(make_region().configure("dogpile.cache.memory"))
    assert tier.find("k", "", "g") is None
    with tier._lock:
        child = os.fork()
        if child == 0:
            counting = threading.Thread(target=tier.find, args=("k", "", "g"), daemon=True)
            counting.start()
            counting.join(SECONDS)
            os._exit(counting.is_alive() or tier.statistics.missed != 1)
    assert os.waitpid(child, 0)[1] == 0
