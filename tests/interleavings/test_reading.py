"""What is read: by threads of one request, in loads, and while others end what it was read in."""

from __future__ import annotations

import asyncio
import contextvars
import datetime
import os
import signal
import threading
import time
import zoneinfo
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import select, text, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session
from sqlalchemy.pool import QueuePool

from coherent_cache import cached, make_key, view
from coherent_cache.loading import Loader
from coherent_cache.rounds import ThreadRounds
from coherent_cache.store import Store
from coherent_cache.view import View

from ..databases import Database
from ..schedules.schedule import Schedule
from ..workers import PageText, Wiki, Worker, page, put


def in_context(function: Any) -> Any:
    context = contextvars.copy_context()
    return lambda: context.run(function)


def elsewhere(function: Any) -> Any:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result(20)


# 1


@pytest.mark.on("sqlite-wal", "postgresql", "mariadb")
@pytest.mark.parametrize("level", ["REPEATABLE READ", "READ COMMITTED"])
def test_rolled_back_by_another_thread_during_the_load(
    worker: Worker, other: Worker, schedule: Schedule, level: str
) -> None:
    worker.write("Front", "old")
    worker.cache_manager.evict()
    with worker.cache_manager.request(), worker.engine.connect() as connection:
        if not worker.database.is_sqlite:
            connection.execution_options(isolation_level=level)
        transaction = connection.begin()
        put(connection, "Front", "mine")
        schedule(
            """
            reader  reaches  load: data read, transactions not asked
            main    ends
            reader  ends
            """,
            reader=in_context(lambda: PageText(worker, "Front").text),
            main=in_context(transaction.rollback),
        )
    assert other.read("Front") == "old"
    assert worker.read("Front") == "old"


# 2


class Site:
    def __init__(self, env: Worker) -> None:
        self.env = env

    @cached
    def one(self) -> str:
        return PageText.text.retriever(PageText(self.env, "One"))  # type: ignore

    @cached
    def two(self) -> str:
        return PageText.text.retriever(PageText(self.env, "Two"))  # type: ignore

    @cached
    def both(self) -> str:
        with self.env.cache_manager.request():
            return f"{self.one} {self.two}"


@pytest.mark.on("sqlite-wal", "postgresql", "mariadb")
def test_a_request_within_a_retriever(worker: Worker) -> None:
    worker.write("One", "1")
    worker.write("Two", "2")
    site = Site(worker)
    assert (site.one, site.two) == ("1", "2")
    assert site.both == "1 2"
    with worker.cache_manager.begin() as connection:
        put(connection, "Two", "new")
        del site.two
    assert site.two == "new"
    assert site.both == "1 new"


# 3


def test_a_round_whose_leader_is_interrupted_as_his_turn_comes() -> None:
    rounds = ThreadRounds()
    state: Any = rounds._state
    begun, go_on, left = threading.Event(), threading.Event(), threading.Event()
    interrupt = threading.Event()

    class Lock:
        """Between the first round's look at who follows and its word to him, he is interrupted."""

        def __init__(self) -> None:
            self.lock = threading.Lock()

        def __enter__(self) -> None:
            self.lock.acquire()

        def __exit__(self, *_: object) -> None:
            self.lock.release()
            if threading.current_thread() is first and go_on.is_set():
                interrupt.set()
                left.wait(5)

    class Turn(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            if threading.current_thread() is second:
                interrupt.wait(5)
                raise KeyboardInterrupt
            return super().wait(timeout)

    def work() -> None:
        begun.set()
        assert go_on.wait(5)

    def lead() -> None:
        try:
            rounds.run(lambda: None)
        except KeyboardInterrupt:
            left.set()

    first = threading.Thread(target=lambda: rounds.run(work), daemon=True)
    second = threading.Thread(target=lead, daemon=True)
    state._lock, state._event = Lock(), Turn
    first.start()
    assert begun.wait(5)
    second.start()
    while state.next is None:
        pass
    go_on.set()
    first.join(5)
    second.join(5)
    third = threading.Thread(target=lambda: rounds.run(lambda: None), daemon=True)
    third.start()
    third.join(5)
    assert not third.is_alive(), "no check is ever made again"


# 4


@pytest.mark.on("sqlite-wal")
def test_a_thread_that_outlives_the_request(worker: Worker, other: Worker) -> None:
    worker.write("Front", "old")
    assert worker.wiki.names == {"Front"}
    reads, ended = threading.Event(), threading.Event()

    class Page(PageText):
        slow = False

        @property
        def env(self) -> Worker:
            if self.slow:
                reads.set()
                assert ended.wait(10)
            return worker

        @env.setter
        def env(self, env: Worker) -> None:
            pass

        @cached
        def first(self) -> int:
            return 1

        @cached
        def all(self) -> Any:
            return worker.wiki.names

    instance = Page(worker, "Front")
    assert instance.all == {"Front"}
    found: list[Any] = []

    def job() -> None:
        instance.slow = True
        found.append(instance.all)
        instance.slow = False
        other.write("Back", "new")
        found.append(instance.all)
        with worker.cache_manager.request():
            found.append(instance.all)

    with worker.cache_manager.request():
        assert instance.first == 1
        assert instance.first == 1
        context = contextvars.copy_context()
        thread = threading.Thread(target=lambda: context.run(job))
        thread.start()
        assert reads.wait(10)
    ended.set()
    thread.join()
    assert found[1:] == [{"Front", "Back"}] * 2


# 5


@pytest.mark.on("sqlite-wal")
def test_a_retriever_that_reads_two_values_at_once(worker: Worker) -> None:
    """A reads B and C, each in a thread; somebody loads B, which reads A; somebody loads C."""
    manager = worker.cache_manager
    b_begun, c_begun, _a_waits_b, release_c, go_b = (threading.Event() for _ in range(5))

    def a() -> str:
        one = in_context(lambda: manager.get("B", lambda: "b"))
        two = in_context(lambda: manager.get("C", lambda: "c"))
        with ThreadPoolExecutor(2) as pool:
            first = pool.submit(one)
            while not any(f.chain.waiting_on for f in list(flights._flights.values())):
                pass
            second = pool.submit(two)
            while (
                all(
                    flights._flights.get("None C") not in dict(f.chain.waiting_on)
                    for f in list(flights._flights.values())
                    if f.chain.waiting_on
                )
                and not both_wait()
            ):
                pass
            go_b.set()
            return first.result() + second.result()

    flights: Any = manager._loader._flights  # type: ignore[attr-defined]

    def both_wait() -> bool:
        found = [f for s, f in list(flights._flights.items()) if s.key == "C"]
        return any(
            found[0] in dict(f.chain.waiting_on) for f in list(flights._flights.values()) if found
        )

    def b() -> str:
        b_begun.set()
        assert go_b.wait(10)
        return "b" + manager.get("A", lambda: "a")

    def c() -> str:
        c_begun.set()
        assert release_c.wait(30)
        return "c"

    threads = [
        threading.Thread(target=lambda: manager.get("B", b), daemon=True),
        threading.Thread(target=lambda: manager.get("C", c), daemon=True),
    ]
    for thread in threads:
        thread.start()
    assert b_begun.wait(5)
    assert c_begun.wait(5)
    reader = threading.Thread(target=lambda: manager.get("A", a), daemon=True)
    reader.start()
    assert go_b.wait(10)
    threading.Event().wait(0.5)
    release_c.set()
    reader.join(5)
    threads[0].join(5)
    assert not threads[0].is_alive(), "B waits for A, which waits for B"
    assert not reader.is_alive()


@pytest.mark.on("sqlite-wal")
def test_an_async_retriever_that_gathers(worker: Worker) -> None:
    """The same in one event loop, with nothing but gather(): no order is forced but by sleeping."""
    manager = worker.cache_manager

    async def main() -> Any:
        async def a() -> str:
            return "".join(await asyncio.gather(manager.aget("B", nothing), manager.aget("C", c)))

        async def b() -> str:
            await asyncio.sleep(0.2)
            return "b" + await manager.aget("A", nothing)

        async def c() -> str:
            await asyncio.sleep(0.5)
            return "c"

        async def nothing() -> str:
            return ""

        loads = [
            asyncio.create_task(manager.aget("B", b)),
            asyncio.create_task(manager.aget("C", c)),
        ]
        await asyncio.sleep(0.1)
        loads.append(asyncio.create_task(manager.aget("A", a)))
        _done, waiting = await asyncio.wait(loads, timeout=5)
        for each in waiting:
            each.cancel()
        return len(waiting)

    assert asyncio.run(main()) == 0, "tasks that wait for each other"


# 6


@pytest.mark.on("sqlite-wal", "postgresql", "mariadb")
def test_a_slow_thread_takes_away_what_another_has_read(
    worker: Worker, other: Worker, schedule: Schedule
) -> None:
    worker.write("Front", "old")
    assert worker.read("Front") == "old"

    def undone() -> None:
        with worker.engine.connect() as connection:
            connection.begin()
            connection.execute(select(page)).all()
            del PageText(worker, "Front").text
            connection.rollback()

    with worker.cache_manager.request():
        assert worker.wiki.names == {"Front"}
        read = lambda: PageText(worker, "Front").text  # noqa: E731
        played = schedule(
            """
            slow     reaches  view: value found, not kept
            deleter  ends
            quick    ends
            slow     ends
            """,
            slow=in_context(read),
            deleter=in_context(undone),
            quick=in_context(read),
        )
        assert played["quick"] == "old"
        other.write("Front", "new")
        assert elsewhere(lambda: worker.read("Front")) == "new"
        assert read() == "old", "a second value since the del"


# 7


@pytest.mark.on("sqlite-wal", "postgresql", "mariadb")
def test_a_value_of_another_thread_instead_of_ones_own(worker: Worker) -> None:
    worker.write("Front", "old")
    worker.cache_manager.evict()
    with worker.cache_manager.request(), worker.cache_manager.begin() as connection:
        put(connection, "Front", "mine")
        front = PageText(worker, "Front")
        assert front.text == "mine"
        assert elsewhere(lambda: worker.read("Front")) == "old"  # another request fills the store
        elsewhere(in_context(lambda: front.text))  # another thread of this one
        assert front.text == "mine"


# 8


@pytest.mark.on("sqlite-wal", "postgresql", "mariadb")
def test_an_exception_from_an_old_snapshot(
    worker: Worker, other: Worker, schedule: Schedule
) -> None:
    other.write("Front", "old")
    key = "the page"

    def retriever() -> str:
        with worker.cache_manager.connect() as connection:
            return connection.execute(select(page.c.text).where(page.c.name == "New")).scalar_one()

    def old() -> Any:
        with worker.cache_manager.request(), worker.engine.connect() as connection:
            if not worker.database.is_sqlite:
                connection.execution_options(isolation_level="REPEATABLE READ")
            else:
                connection.exec_driver_sql("BEGIN")
            connection.execute(select(page)).all()
            schedule.at("it has a snapshot")
            return worker.cache_manager.get(key, retriever)

    def write() -> None:
        with other.cache_manager.begin() as connection:
            put(connection, "New", "new")
            other.cache_manager.invalidate(key)

    def new() -> Any:
        with worker.cache_manager.request():
            worker.cache_manager.get("looked", lambda: 1)
            schedule.at("it has looked")
            return worker.cache_manager.get(key, retriever)

    played = schedule(
        """
        old     reaches  it has a snapshot
        writer  ends
        new     reaches  it has looked
        old     reaches  load: label taken, no data read
        new     reaches  load: joined or led
        new     goes on
        old     fails
        new     ends
        """,
        old=old,
        writer=write,
        new=new,
    )
    assert played["new"] == "new"


@pytest.mark.on("postgresql")
def test_an_exception_of_anothers_failed_transaction(worker: Worker, schedule: Schedule) -> None:
    worker.write("Front", "old")

    def leader() -> Any:
        with worker.engine.connect() as connection:
            try:
                connection.execute(text("SELECT 1 / 0"))
            except DBAPIError:
                pass
            return PageText(worker, "Front").text

    worker.cache_manager.evict()
    played = schedule(
        """
        leader  reaches  load: label taken, no data read
        reader  reaches  load: joined or led
        reader  goes on
        leader  fails
        reader  ends
        """,
        leader=leader,
        reader=lambda: worker.read("Front"),
    )
    assert played["reader"] == "old"


# 9


@pytest.mark.on("sqlite-wal", "postgresql", "mariadb")
def test_pool_of_one_and_an_idle_connection(worker: Worker) -> None:
    engine = worker.database.engine(
        poolclass=QueuePool, pool_size=1, max_overflow=0, pool_timeout=5
    )
    small = Worker(worker.database, engine=engine)
    begun, taken = threading.Event(), threading.Event()

    def before() -> None:
        if threading.current_thread() is leader:
            begun.set()
            assert taken.wait(5)

    small.wiki.before = before
    errors: list[BaseException] = []

    def lead() -> None:
        try:
            assert small.wiki.names == frozenset()
        except BaseException as error:
            errors.append(error)

    leader = threading.Thread(target=lead)
    leader.start()
    assert begun.wait(5)
    try:
        with engine.connect():
            taken.set()
            threading.Event().wait(0.2)
            assert small.wiki.names == frozenset()
    finally:
        taken.set()
        leader.join()
    assert not errors


# 10


@pytest.mark.on("postgresql", "mariadb")
@pytest.mark.parametrize("how", ["one transaction (control)", "two managers", "two transactions"])
def test_a_value_of_two_transactions(worker: Worker, other: Worker, how: str) -> None:
    worker.write("Front", "old")
    worker.cache_manager.evict()
    if how == "two managers":
        from coherent_cache import CacheManager

        second = CacheManager(worker.engine, table="second")
        second.create_table()

    class Page:
        env = worker

        @cached
        def text(self) -> Any:
            if how == "two transactions":
                with worker.engine.begin() as locking:
                    locking.execute(select(page).with_for_update()).all()
            with worker.cache_manager.connect() as connection:
                return connection.scalar(select(page.c.text).where(page.c.name == "Front"))

    with worker.cache_manager.request(), worker.engine.connect() as connection:
        connection.execution_options(isolation_level="READ COMMITTED")
        with connection.begin():
            connection.execute(text("CREATE TEMPORARY TABLE mine (a INT)"))
            connection.execute(text("INSERT INTO mine VALUES (1)"))
            assert Page().text == "old"
            other.write("Front", "new")
            elsewhere(lambda: other.cache_manager.invalidate(Page.text.prefix))  # type: ignore
            assert Page().text == "old"


@pytest.mark.on("postgresql")
@pytest.mark.parametrize("end", ["rollback", "commit"])
@pytest.mark.parametrize("first", [True, False])
def test_a_value_of_two_open_transactions(worker: Worker, end: str, first: bool) -> None:
    """It stands as long as none of them is undone, and stays if both are committed."""
    manager = worker.cache_manager
    loads = []
    with manager.request(), worker.engine.connect() as one, worker.engine.connect() as two:

        def retriever() -> Any:
            loads.append(1)
            return sum(each.scalar(text("SELECT COUNT(*) FROM page")) for each in (one, two))

        def read() -> Any:
            return manager.get("k", retriever)

        put(one, "a", "")
        put(two, "b", "")
        for _ in range(2):
            assert read() == 2
        sooner, later = (one, two) if first else (two, one)
        getattr(sooner, end)()
        if end == "rollback":
            assert read() == 1
            return
        for _ in range(2):
            assert read() == 2  # both would see more now
        assert len(loads) == 1
        later.commit()
        put(later, "c", "")
        assert read() == 2
        assert len(loads) == 1


@pytest.mark.on("postgresql")
@pytest.mark.parametrize("first", [True, False])
def test_own_writes_in_two_open_transactions(worker: Worker, first: bool) -> None:
    manager = worker.cache_manager
    with manager.request(), worker.engine.connect() as one, worker.engine.connect() as two:

        def retriever() -> Any:
            return sum(each.scalar(text("SELECT COUNT(*) FROM page")) for each in (one, two))

        put(one, "a", "")
        put(two, "b", "")
        assert manager.get("k", retriever) == 2
        manager.invalidate("k", connection=two)
        put(two, "c", "")
        assert manager.get("k", retriever) == 3
        put(two, "d", "")
        assert manager.get("k", retriever) == 4
        if first:
            one.commit()
            put(two, "e", "")
            assert manager.get("k", retriever) == 6
        else:
            two.commit()
            assert manager.get("k", retriever) == 7


@pytest.mark.on("postgresql", "mariadb")
def test_a_value_of_another_managers_transaction(database: Database, worker: Worker) -> None:
    from coherent_cache import CacheManager

    first = worker.cache_manager
    second = CacheManager(database.engine(), table="second")
    second.create_table()
    with first.request(), second.request(), second.engine.connect() as connection:
        put(connection, "a", "")

        def read() -> Any:
            return connection.scalar(text("SELECT COUNT(*) FROM page"))

        assert first.get("k", lambda: ("first", read())) == ("first", 1)
        assert second.get("k", lambda: ("second", read())) == ("second", 1)
        connection.rollback()
        assert first.get("k", lambda: ("first", read())) == ("first", 0)


@pytest.mark.on("sqlite-wal", "postgresql", "mariadb")
@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_a_value_of_two_managers_transaction(worker: Worker, end: str) -> None:
    from coherent_cache import CacheManager

    second = CacheManager(worker.engine, table="second")
    second.create_table()
    manager = worker.cache_manager
    loads = []
    with manager.request(), worker.engine.connect() as connection:

        def retriever() -> Any:
            loads.append(1)
            return connection.scalar(text("SELECT COUNT(*) FROM page"))

        put(connection, "a", "")
        for _ in range(2):
            assert manager.get("k", retriever) == 1
        getattr(connection, end)()
        assert manager.get("k", retriever) == (end == "commit")
        assert len(loads) == 1 + (end == "rollback")


# 11


@pytest.mark.on("postgresql", "mariadb")
def test_own_write_in_one_of_two_transactions(worker: Worker) -> None:
    worker.write("Front", "old")
    worker.cache_manager.evict()
    front = PageText(worker, "Front")
    with worker.cache_manager.request(), worker.engine.connect() as one:
        one.execution_options(isolation_level="READ COMMITTED")
        with one.begin():
            put(one, "Other", "something")
            assert front.text == "old"
            with worker.engine.connect() as two, two.begin():
                put(two, "Front", "new")
                worker.cache_manager.invalidate(front, "text", connection=two)
            assert front.text == "new"


# 12


# 13


@pytest.mark.on("sqlite-wal", "postgresql", "mariadb")
@pytest.mark.parametrize("outer", [True, False])
@pytest.mark.parametrize("orm", [True, False])
def test_a_transaction_that_outlives_the_request(
    worker: Worker, other: Worker, outer: bool, orm: bool
) -> None:
    worker.write("Front", "old")

    def script() -> None:
        held: Any = Session(worker.engine) if orm else worker.engine.connect()
        with held as session:
            with worker.cache_manager.request():
                session.execute(update(page).values(text="new"))
            del PageText(worker, "Front").text
            assert elsewhere(lambda: other.read("Front")) == "old"
            session.commit()

    if outer:
        with worker.cache_manager.request():
            script()
    else:
        script()
    assert other.read("Front") == "new"
    assert worker.read("Front") == "new"


# 14


@pytest.mark.on("sqlite-wal", "postgresql", "mariadb")
def test_a_retriever_that_rolls_back_the_callers_transaction(worker: Worker) -> None:
    worker.write("Front", "old")
    worker.cache_manager.evict()
    with worker.cache_manager.request(), Session(worker.engine) as session:

        class Page:
            env = worker

            @cached
            def text(self) -> Any:
                found = session.scalar(select(page.c.text).where(page.c.name == "Front"))
                session.rollback()
                return found

        session.execute(update(page).values(text="mine"))
        assert Page().text in ("mine", "old")
        session.rollback()
        assert Page().text == "old"


@pytest.mark.on("sqlite-wal", "postgresql", "mariadb")
@pytest.mark.parametrize("how", ["text", "driver", "savepoint"])
def test_a_retriever_that_undoes_what_it_has_read(worker: Worker, how: str) -> None:
    """Like the test before, but by ways that SQLAlchemy does not know of, or to a savepoint."""
    worker.write("Front", "old")
    worker.cache_manager.evict()
    with worker.cache_manager.request(), worker.engine.connect() as connection:
        connection.begin()
        undone: list[Any] = []

        class Page:
            env = worker

            @cached
            def text(self) -> Any:
                found = connection.scalar(select(page.c.text).where(page.c.name == "Front"))
                if how == "text" and not undone:
                    undone.append(connection.execute(text("ROLLBACK")))
                elif how == "driver" and not undone:
                    undone.append(connection.connection.rollback())
                elif how == "savepoint" and savepoint.is_active:
                    savepoint.rollback()
                return found

        if how == "savepoint":
            connection.execute(page.insert().values(name="Other", text="other"))
            savepoint = connection.begin_nested()
        connection.execute(update(page).where(page.c.name == "Front").values(text="mine"))
        assert Page().text in ("mine", "old")
        seen_by_another = elsewhere(lambda: Page().text) if how != "savepoint" else "old"
        seen_again = Page().text
        connection.rollback()
    assert (seen_by_another, seen_again) == ("old", "old")


# 15


@pytest.mark.on("sqlite-wal", "postgresql", "mariadb")
def test_a_look_from_before_the_commit_lowers_the_label(
    worker: Worker, schedule: Schedule, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two threads of a request; the one that looked before the other's commit tells the view."""
    worker.write("Front", "old")
    worker.cache_manager.evict()
    label = Store.label.fget  # type: ignore[attr-defined]
    from_store = Loader._from_store
    looker: list[int] = []

    def gated(store: Store) -> Any:
        found = label(store)
        if looker and threading.get_ident() == looker[0]:
            schedule.at("it has the label")
        return found

    def gated_from_store(loader: Loader, read: Any) -> Any:
        schedule.at("it has looked")
        return from_store(loader, read)

    monkeypatch.setattr(Store, "label", property(gated))
    monkeypatch.setattr(Loader, "_from_store", gated_from_store)

    def look() -> Any:
        looker.append(threading.get_ident())
        return worker.cache_manager.get("looked", lambda: 1)

    def write_and_read() -> Any:
        worker.write("Front", "new")
        return PageText(worker, "Front").text

    with worker.cache_manager.request():
        contexts = [contextvars.copy_context() for _ in range(2)]
        played = schedule(
            """
            stranger  reaches  load: data read, transactions not asked
            looker    reaches  it has the label
            writer    reaches  it has looked
            looker    ends
            writer    reaches  load: joined or led
            writer    goes on
            stranger  ends
            writer    ends
            """,
            stranger=lambda: worker.read("Front"),
            looker=lambda: contexts[0].run(look),
            writer=lambda: contexts[1].run(write_and_read),
        )
        assert played["writer"] == "new"
        assert PageText(worker, "Front").text == "new"


# 16


def test_times_of_two_zones() -> None:
    berlin, tokyo = map(zoneinfo.ZoneInfo, ("Europe/Berlin", "Asia/Tokyo"))
    noon = datetime.time(12)
    keys = {make_key("k", noon.replace(tzinfo=zone)) for zone in (berlin, tokyo, None)}
    assert len(keys) == 3


# 17


@pytest.mark.on("sqlite-wal")
def test_an_instance_that_equals_another_ones(worker: Worker) -> None:
    class Page(PageText):
        @cached("name")
        def shown(self) -> str:
            return f"{type(self).__name__} {self.name}"

    class Preview(Page):
        def __init__(self, of: Page) -> None:
            super().__init__(of.env, of.name)
            self.of = of

        def __eq__(self, other: object) -> bool:
            return self.of == other

        def __hash__(self) -> int:
            return hash(self.of)

    front = Page(worker, "Front")
    with worker.cache_manager.request():
        assert front.shown == "Page Front"
        assert front.shown == "Page Front"
        assert Preview(front).shown == "Preview Front"


# 18


@pytest.mark.on("sqlite-wal")
def test_a_thread_that_outlives_the_retriever(worker: Worker) -> None:
    manager = worker.cache_manager
    over = threading.Event()
    found: list[Any] = []

    def job() -> None:
        assert over.wait(5)
        try:
            found.append(manager.get("A", lambda: "a"))
        except BaseException as error:
            found.append(error)

    def a() -> str:
        thread = threading.Thread(target=in_context(job))
        threads.append(thread)
        thread.start()
        return "a"

    threads: list[threading.Thread] = []
    assert manager.get("A", a) == "a"
    manager.evict()
    over.set()
    threads[0].join()
    assert found == ["a"]


# 19


@pytest.mark.on("sqlite-wal")
def test_a_name_in_another_normal_form(worker: Worker, other: Worker) -> None:
    name = "e\u0301"

    class Page:
        env = worker

        @cached(name)
        def text(self) -> Any:
            return PageText.text.retriever(PageText(worker, getattr(self, name)))  # type: ignore

    worker.write("Front", "old")
    instance = Page()
    setattr(instance, name, "Front")
    instance.é = "Back"
    with worker.cache_manager.request():
        assert instance.text == "old"
    worker.write("Front", "new")
    del instance.text
    with worker.cache_manager.request():
        assert instance.text == "new"


# 20


@pytest.mark.on("sqlite-wal")
def test_get_beside_aget_in_one_loop(worker: Worker) -> None:
    manager = worker.cache_manager

    async def slow() -> str:
        await asyncio.sleep(0.1)
        return "value"

    async def main() -> Any:
        task = asyncio.create_task(manager.aget("key", slow))
        await asyncio.sleep(0.01)
        return manager.get("key", lambda: "value"), await task

    thread = threading.Thread(target=lambda: asyncio.run(main()), daemon=True)
    thread.start()
    thread.join(5)
    assert not thread.is_alive(), "the loop waits for its own task"


# 21


@pytest.mark.on("postgresql", "mariadb", "sqlite-wal")
def test_a_retriever_that_leaves_a_thread_with_a_statement(worker: Worker) -> None:
    """It gives up waiting for the thread, which goes on with its own connection."""
    found: list[Any] = []
    sleep = {"postgresql": "SELECT 1, pg_sleep(2)", "mariadb": "SELECT 1, SLEEP(2)"}
    statement = sleep.get(
        worker.database.kind,
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 9000000) "
        "SELECT 1, COUNT(*) FROM n",
    )

    def query() -> None:
        try:
            with worker.engine.connect() as connection:
                found.append(connection.execute(text(statement)).all()[0][0])
        except BaseException as error:
            found.append(error)

    async def retriever() -> str:
        try:
            await asyncio.wait_for(asyncio.to_thread(query), 0.5)
        except TimeoutError:
            return "given up"
        return "in time"

    async def main() -> Any:
        begin = time.monotonic()
        value = await worker.cache_manager.aget("key", retriever)
        return value, time.monotonic() - begin

    value, seconds = asyncio.run(main())
    assert value == "given up"
    assert found == [1]
    assert seconds < 1.5


# 22


@pytest.mark.on("sqlite-wal")
def test_a_fork_in_a_retriever_while_another_thread_joins_a_load(
    worker: Worker, schedule: Schedule
) -> None:
    ended: list[Any] = []

    def fork() -> None:
        pids: list[int] = []

        def retriever() -> str:
            schedule.at("it is about to fork")
            pids.append(os.fork())
            if pids[0]:
                end = time.monotonic() + 5
                while time.monotonic() < end and not ended:
                    if os.waitpid(pids[0], os.WNOHANG)[0]:
                        ended.append("by itself")
                    time.sleep(0.01)
                if not ended:
                    os.kill(pids[0], signal.SIGKILL)
                    os.waitpid(pids[0], 0)
                    ended.append("it hung")
            return "value"

        try:
            worker.cache_manager.get("forked", retriever)
        finally:
            if pids == [0]:
                os._exit(0)

    schedule(
        """
        leader  reaches  load: label taken, no data read
        forker  reaches  it is about to fork
        second  reaches  load: another is under way, not joined
        forker  goes on
        timer   ends                                    -- meanwhile the child is forked
        second  goes on
        leader  ends
        second  ends
        forker  ends
        """,
        leader=lambda: worker.read("Front"),
        second=lambda: worker.read("Front"),
        forker=fork,
        timer=lambda: time.sleep(1),
    )
    assert ended == ["by itself"]


@pytest.mark.on("sqlite-wal")
def test_found_while_it_is_forgotten(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread of the request finds the value after its `del` is counted and before it is gone, on
    an instance that the memo has not met, and memorises it when the `del` is done."""
    found, may_memorise = threading.Event(), threading.Event()
    memorise, forget = View.memorise, view.forget
    second = Wiki(worker)

    def late(*arguments: Any) -> None:
        if threading.current_thread() is not threading.main_thread():
            found.set()
            assert may_memorise.wait(20)
        memorise(*arguments)

    with worker.cache_manager.request(), ThreadPoolExecutor(1) as pool:
        assert worker.wiki.names == frozenset()
        reads = in_context(lambda: second.names)
        reading = []

        def gated(*arguments: Any) -> Any:
            reading.append(pool.submit(reads))
            assert found.wait(20)
            return forget(*arguments)

        with worker.engine.begin() as connection:
            put(connection, "A", "")
            monkeypatch.setattr(View, "memorise", late)
            monkeypatch.setattr(view, "forget", gated)
            del worker.wiki.names
            monkeypatch.setattr(view, "forget", forget)
            may_memorise.set()
            assert reading[0].result(20) == frozenset()
            assert second.names == {"A"}
