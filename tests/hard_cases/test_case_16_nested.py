"""Hard case 16: values computed from cached values, and many who want one at once.

A menu is made from the list of pages, itself cached: what invalidates the list invalidates the
menu, wherever the reader stands.  One that is made from itself is an error, two that two threads
load in opposite orders do not wait for each other, and whoever waits for a load gets what he may
have, or loads himself.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.exc import NoResultFound
from sqlalchemy.pool import QueuePool

from coherent_cache import RecursiveRetrieverError, cached, loading

from ..schedules.schedule import Schedule
from ..workers import PageText, Worker, page, put

pytestmark = pytest.mark.on("sqlite-wal", "postgresql", "mariadb")
SECONDS = 30


class Site:
    """A component with attributes that depend on each other."""

    def __init__(self, env: Worker) -> None:
        self.env = env
        self.calls: list[str] = []
        self.hooks: dict[str, Callable[[], Any]] = {}

    def _enter(self, name: str) -> None:
        self.calls.append(name)
        self.hooks.get(name, lambda: None)()

    @cached
    def titles(self) -> frozenset[str]:
        self._enter("titles")
        with self.env.cache_manager.connect() as connection:
            return frozenset(connection.scalars(select(page.c.name)))

    @cached
    def menu(self) -> str:
        self._enter("menu")
        return ", ".join(sorted(self.titles))

    @cached
    def frame(self) -> str:
        self._enter("frame")
        return f"[{self.menu}]"

    @cached
    def constant(self) -> int:
        self._enter("constant")
        return 1

    @cached
    def selfish(self) -> int:
        return self.selfish_too + 1

    @cached
    def selfish_too(self) -> int:
        return self.selfish + 1

    @cached
    def left(self) -> str:
        self._enter("left")
        return "left" + (self.right if self.env is not None else "")

    @cached
    def right(self) -> str:
        self._enter("right")
        return "right"


def test_case_16_dependents_are_dropped(worker: Worker, other: Worker) -> None:
    """The `del` names the innermost value only."""
    here, there = Site(worker), Site(other)
    worker.write("A", "")
    assert here.frame == there.frame == "[A]"
    assert here.constant == there.constant == 1
    with worker.cache_manager.request():
        assert here.frame == "[A]"
        with worker.cache_manager.begin() as connection:
            put(connection, "B", "")
            del here.titles
            assert here.frame == "[A, B]"  # in its own transaction
            assert there.frame == "[A]"
        assert here.frame == "[A, B]"  # after the commit, in the same request
    assert here.frame == there.frame == "[A, B]"
    assert here.menu == there.menu == "A, B"
    assert here.calls.count("constant") == there.calls.count("constant") == 1


def test_case_16_dependents_in_a_transaction_that_rolls_back(worker: Worker, other: Worker) -> None:
    here, there = Site(worker), Site(other)
    worker.write("A", "")
    assert here.frame == there.frame == "[A]"
    with worker.cache_manager.request(), worker.engine.connect() as connection:
        with connection.begin():
            savepoint = connection.begin_nested()
            put(connection, "B", "")
            del here.titles
            assert here.frame == "[A, B]"
            savepoint.rollback()
            assert here.frame == "[A]"
        assert here.frame == "[A]"
    assert here.frame == there.frame == "[A]"


def test_case_16_dependent_was_read_from_the_view(worker: Worker, other: Worker) -> None:
    """The inner value came from memory when the outer one was computed: it counts all the same."""
    here, there = Site(worker), Site(other)
    with worker.cache_manager.request():
        assert here.titles == frozenset()
        assert here.frame == "[]"
    other.write("A", "")
    with other.cache_manager.begin():
        del there.titles
    assert here.frame == "[A]"


@pytest.mark.on("sqlite-memory", "postgresql")
def test_case_16_itself(worker: Worker) -> None:
    """An error that names the way round, at once, also in several threads."""
    site = Site(worker)
    for _ in range(2):
        with pytest.raises(RecursiveRetrieverError, match=r"selfish → .*selfish_too → .*selfish"):
            site.selfish  # noqa: B018
    with worker.cache_manager.request(), pytest.raises(RecursiveRetrieverError):
        site.selfish_too  # noqa: B018
    get = worker.cache_manager.get

    def first() -> Any:
        return get("first", lambda: get("second", lambda: get("third", first)))

    with pytest.raises(RecursiveRetrieverError, match="first → second → third → first"):
        first()
    assert site.constant == 1


def in_threads(*functions: Callable[[], Any]) -> list[Future[Any]]:
    pool = ThreadPoolExecutor(len(functions))
    futures = [pool.submit(function) for function in functions]
    pool.shutdown(wait=False)
    return futures


def test_case_16_opposite_orders(worker: Worker) -> None:
    """One thread loads A, which reads B; the other loads B, which reads A of another instance's
    making: each waits to hear from the other, if nobody prevents it."""
    manager = worker.cache_manager
    barrier = threading.Barrier(2)

    def load(first: str, second: str, meet: bool) -> Any:
        def retriever() -> str:
            if meet:
                barrier.wait(SECONDS)
            return first + manager.get(second, lambda: load_inner(second, first))

        return manager.get(first, retriever)

    def load_inner(name: str, back: str) -> str:
        return name + "."

    futures = in_threads(lambda: load("A", "B", True), lambda: load("B", "A", True))
    results = sorted(future.result(SECONDS) for future in futures)
    assert results in (["AB.", "BA."], ["AB.", "BAB."], ["ABA.", "BA."])


def many(names: list[str], leader_ends: str) -> str:
    """A script: one loads, *names* wait for it."""
    arrive = [f"{name} reaches load: joined or led\n{name} goes on" for name in names]
    end = [f"{name} ends" for name in names]
    lead = "leader reaches load: label taken, no data read"
    return "\n".join([lead, *arrive, f"leader {leader_ends}", *end])


def test_case_16_one_load(worker: Worker, schedule: Schedule) -> None:
    """Many threads miss at once: one retriever call, one value for all."""
    site = Site(worker)
    names = ["second", "third", "fourth", "fifth", "sixth"]
    actors = {name: lambda: site.titles for name in ["leader", *names]}
    played = schedule(many(names, "ends"), **actors)
    assert len({id(value) for value in played.values()}) == 1
    assert site.calls == ["titles"]


def test_case_16_other_keys_are_not_held_up(worker: Worker) -> None:
    worker.write("A", "text")
    site = Site(worker)
    entered, release = threading.Event(), threading.Event()

    def hook() -> None:
        entered.set()
        assert release.wait(SECONDS)

    site.hooks["titles"] = hook
    (leader,) = in_threads(lambda: site.titles)
    assert entered.wait(SECONDS)
    assert site.constant == 1
    assert PageText(worker, "A").text == "text"
    with worker.cache_manager.begin():
        del PageText(worker, "A").text
    assert not leader.done()
    release.set()
    assert leader.result(SECONDS) == {"A"}


def test_case_16_exception_reaches_all_who_asked(worker: Worker, schedule: Schedule) -> None:
    """It is raised where anybody waits, also through another value, and not remembered."""
    site = Site(worker)

    def hook() -> None:
        raise ZeroDivisionError("by the retriever")

    site.hooks["titles"] = hook
    played = schedule(
        """
        leader  reaches  load: label taken, no data read
        titles  reaches  load: joined or led
        titles  goes on
        menu    reaches  load: joined or led   -- leads its own
        menu    reaches  load: joined or led   -- and joins the leader's
        menu    goes on
        leader  fails
        titles  fails
        menu    fails
        """,
        leader=lambda: site.titles,
        titles=lambda: site.titles,
        menu=lambda: site.menu,
    )
    assert [str(error) for error in played.values()] == ["by the retriever"] * 3
    assert site.calls.count("titles") == 1
    site.hooks.clear()
    assert site.menu == ""


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_case_16_leader_is_interrupted(
    worker: Worker, schedule: Schedule, error: type[BaseException]
) -> None:
    """Ctrl-C ends the one who loads, and says nothing about the value: another one loads it."""
    site = Site(worker)
    interruptions = [error]

    def hook() -> None:
        if interruptions:
            raise interruptions.pop()

    site.hooks["titles"] = hook
    names = ["second", "third", "fourth"]
    actors = {name: lambda: site.titles for name in ["leader", *names]}
    played = schedule(many(names, "fails"), **actors)
    assert isinstance(played.pop("leader"), error)
    assert list(played.values()) == [frozenset()] * 3
    assert site.calls == ["titles"] * 2


def test_case_16_newer_view_does_not_take_the_older_value(worker: Worker, other: Worker) -> None:
    """A load has read its data and is slow to end; then a commit comes, and a request begins that
    has to see it.  It does not wait for what would be too old for it."""
    site = Site(worker)
    other.write("A", "")
    entered, release = threading.Event(), threading.Event()

    def hook() -> None:
        if not entered.is_set():
            entered.set()
            assert release.wait(SECONDS)

    manager = worker.cache_manager

    def titles_slowly() -> Any:
        with manager.connect() as connection:
            found = frozenset(connection.scalars(select(page.c.name)))
        hook()
        return found

    def load() -> Any:
        return manager.get("titles", titles_slowly)

    (leader,) = in_threads(load)
    assert entered.wait(SECONDS)
    with other.cache_manager.begin() as connection:
        put(connection, "B", "")
        other.cache_manager.invalidate("titles")
    with manager.request():
        assert load() == {"A", "B"}  # while the leader is still at it
    release.set()
    assert leader.result(SECONDS) == {"A"}
    assert load() == {"A", "B"}
    assert site.calls == []


def pool_of_one(worker: Worker) -> Worker:
    engine = worker.database.engine(
        poolclass=QueuePool, pool_size=1, max_overflow=0, pool_timeout=2
    )
    return Worker(worker.database, engine=engine)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits for a load that he should not wait for does so for ever, not for a second."""
    monkeypatch.setattr(loading, "_PATIENCE", None)


@pytest.mark.usefixtures("patient")
def test_case_16_pool_of_one(worker: Worker) -> None:
    """One connection for all threads.  The one who loads waits for it, the one who has it wants
    what is being loaded: he loads it himself."""
    small = pool_of_one(worker)
    site = Site(small)
    entered, held = threading.Event(), threading.Event()

    def hook() -> None:
        if not entered.is_set():
            entered.set()
            assert held.wait(SECONDS)

    site.hooks["titles"] = hook
    (leader,) = in_threads(lambda: site.titles)
    assert entered.wait(SECONDS)
    with small.cache_manager.begin() as connection:
        connection.execute(page.select()).all()
        held.set()  # the leader asks the pool now
        assert site.titles == frozenset()
        assert site.frame == "[]"
    assert leader.result(SECONDS) == frozenset()


@pytest.mark.usefixtures("patient")
def test_case_16_pool_of_one_between_two_connections(worker: Worker) -> None:
    """The one who loads has given his connection back and will need it again; meanwhile another
    thread has got it, and wants what is being loaded."""
    small = pool_of_one(worker)
    manager = small.cache_manager
    returned, taken = threading.Event(), threading.Event()

    def twice() -> int:
        with manager.connect() as connection:
            connection.execute(page.select()).all()
        if not returned.is_set():
            returned.set()
            assert taken.wait(SECONDS)
        with manager.connect() as connection:
            return len(connection.execute(page.select()).all())

    (leader,) = in_threads(lambda: manager.get("twice", twice))
    assert returned.wait(SECONDS)
    with manager.begin() as connection:
        connection.execute(page.select()).all()
        taken.set()
        assert manager.get("twice", twice) == 0
    assert leader.result(SECONDS) == 0


def test_case_16_pool_of_one_through_everything(worker: Worker, other: Worker) -> None:
    """Read, `del`, begin and connect within each other never take a second connection."""
    small = pool_of_one(worker)
    site = Site(small)
    manager = small.cache_manager
    other.write("A", "")
    assert other.wiki.names == {"A"}
    with manager.request():
        assert site.frame == "[A]"
        with manager.begin() as connection:
            assert site.constant == 1
            put(connection, "B", "")
            del site.titles
            del small.wiki.names
            with manager.begin() as inner, manager.connect() as read:
                assert inner is connection is read
                assert site.frame == "[A, B]"
            assert small.wiki.names == {"A", "B"}
        assert site.frame == "[A, B]"
        del site.titles
        assert site.frame == "[A, B]"
        with manager.connect() as connection:
            assert site.frame == "[A, B]"
            del site.titles  # the pool's connection is in our hands
            assert site.frame == "[A, B]"
    with small.engine.connect() as connection:
        connection.execute(page.select()).all()
        assert site.frame == "[A, B]"
    assert other.wiki.names == {"A", "B"}


class Lenient:
    """A component that has something to show in place of what fails."""

    def __init__(self, env: Worker) -> None:
        self.env = env
        self.before: Callable[[], None] = lambda: None

    @cached
    def inner(self) -> str:
        self.before()
        with self.env.cache_manager.connect() as connection:
            text: str = connection.execute(
                select(page.c.text).where(page.c.name == "a")
            ).scalar_one()
        return text

    @cached
    def outer(self) -> str:
        try:
            return self.inner
        except NoResultFound:
            return "nothing there"


def test_case_16_computed_from_an_inner_failure(worker: Worker, other: Worker) -> None:
    # The one who fails is what the value depends on.
    shown = Lenient(worker)
    with worker.cache_manager.request():
        assert shown.outer == "nothing there"
        with worker.cache_manager.begin() as connection:
            put(connection, "a", "uncommitted")
            del shown.inner
            assert shown.outer == "uncommitted"
            connection.rollback()
    assert shown.outer == Lenient(other).outer == "nothing there"
    other.write("a", "new")
    del Lenient(other).inner
    assert shown.outer == "new"


def test_case_16_computed_from_an_inner_failure_of_another_thread(worker: Worker) -> None:
    # Who waited for a load that failed depends on what that had read.
    shown, arrived, go_on = Lenient(worker), threading.Event(), threading.Event()

    def stop() -> None:
        arrived.set()
        assert go_on.wait(SECONDS)

    shown.before = stop
    flights = worker.cache_manager._loader._flights
    join = flights.join_or_lead

    def joined(slot: Any, *arguments: Any, **options: Any) -> Any:
        found = join(slot, *arguments, **options)
        if not found[1]:
            go_on.set()
        return found

    flights.join_or_lead = joined  # type: ignore[method-assign]
    with ThreadPoolExecutor(2) as pool:
        inner = pool.submit(lambda: shown.inner)
        assert arrived.wait(SECONDS)
        shown.before = lambda: None
        outer = pool.submit(lambda: shown.outer)
        assert outer.result(SECONDS) == "nothing there"
        assert isinstance(inner.exception(SECONDS), NoResultFound)
    worker.write("a", "new")
    del shown.inner
    assert shown.outer == "new"
