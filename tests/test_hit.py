"""What a hit must come to in either form: run on the compiled one by test_compiled.py."""

from __future__ import annotations

import gc
import sys
import threading
import tracemalloc
import weakref
from collections.abc import Callable
from contextvars import copy_context
from typing import Any

import pytest

from coherent_cache import CachedProperty, CachedSingletonProperty, cached
from coherent_cache.memo import current_memo

from .workers import Worker

pytestmark = pytest.mark.on("sqlite-wal")  # the database plays no part in it

READS = 100_000


class Shelf:
    """Says how often its part was asked for; its values are objects that are met nowhere else."""

    def __init__(self, env: Any, part: Any = "a") -> None:
        self.env = env
        self.given = part
        self.asked = 0

    @property
    def part(self) -> Any:
        self.asked += 1
        if isinstance(self.given, BaseException):
            raise self.given
        return self.given

    @cached
    def single(self) -> list[object]:
        return [object()]

    @cached("part")
    def keyed(self) -> list[object]:
        return [object()]


class Plain(Shelf):
    """The part is in the instance's own dictionary."""

    part = None

    def __init__(self, env: Any, part: Any = "a") -> None:
        super().__init__(env, part)
        self.part = part


class Slotted:
    __slots__ = ("env", "part")

    def __init__(self, env: Any, part: Any = "a") -> None:
        self.env = env
        self.part = part

    @cached("part")
    def keyed(self) -> list[object]:
        return [object()]


class Interrupted(BaseException):
    """Not an `Exception`: nobody's to catch."""


def test_the_class_gives_the_descriptor(worker: Worker) -> None:
    single: Any = Shelf.single
    keyed: Any = Shelf.keyed
    assert type(single) is CachedSingletonProperty
    assert type(keyed) is CachedProperty
    assert isinstance(single, property)
    assert single.__get__(None, Shelf) is single
    shelf = Plain(worker)
    with worker.cache_manager.request():
        for attribute in (single, keyed):
            values = [attribute.__get__(shelf, Plain), attribute.fget(shelf), attribute.fget(shelf)]
            assert values.count(values[0]) == 3


def test_the_part_is_asked_for_once(worker: Worker) -> None:
    """It may be a property that takes its time."""
    shelf, neighbour = Shelf(worker), Shelf(worker)
    with worker.cache_manager.request():
        first = shelf.keyed
        shelf.asked = 0
        assert shelf.keyed is first  # found
        assert shelf.asked == 1
        shelf.given = "b"
        second = shelf.keyed  # computed
        shelf.asked = 0
        shelf.given = "a"
        assert shelf.keyed is first  # taken over, in place of another part's
        assert neighbour.keyed is first  # taken over
        assert (shelf.asked, neighbour.asked) == (1, 1)
        shelf.given = "b"
        assert shelf.keyed is second


@pytest.mark.parametrize("kind", [Shelf, Plain, Slotted])
def test_a_part_wherever_it_is_kept(worker: Worker, kind: type[Any]) -> None:
    one, two = kind(worker, "a"), kind(worker, "b")
    with worker.cache_manager.request():
        first, second = one.keyed, two.keyed
        assert first is not second
        for _ in range(3):
            assert one.keyed is first
            assert two.keyed is second


def test_a_part_that_cannot_be_read(worker: Worker) -> None:
    shelf = Shelf(worker)
    with worker.cache_manager.request():
        first = shelf.keyed
        assert shelf.keyed is first
        for error in (ValueError("no part"), AttributeError("no part")):
            shelf.given = error
            with pytest.raises(type(error), match="no part") as raised:
                _ = shelf.keyed
            assert raised.value is error
            assert error.__context__ is None
        shelf.given = "a"
        assert shelf.keyed is first


def test_an_interruption_passes(worker: Worker) -> None:
    """Of the part, or of the instance's hash: it is not taken for a value that is missing."""

    class Hashed(Plain):
        interrupts = False

        def __hash__(self) -> int:
            if self.interrupts:
                raise Interrupted
            return id(self)

    shelf, hashed = Shelf(worker), Hashed(worker)
    with worker.cache_manager.request():
        _ = shelf.keyed, shelf.keyed, shelf.single, Plain(worker).single
        _ = hashed.keyed, hashed.single
        shelf.asked, shelf.given = 0, Interrupted()
        with pytest.raises(Interrupted):
            _ = shelf.keyed
        assert shelf.asked == 1
        hashed.interrupts = True
        with pytest.raises(Interrupted):
            _ = hashed.keyed
        with pytest.raises(Interrupted):
            _ = hashed.single


@pytest.mark.parametrize("equal", [False, True])
def test_the_memo_is_emptied_while_it_is_asked(worker: Worker, equal: bool) -> None:
    """By an instance that is looked up, when it is compared with one that is there."""
    shelf = Plain(worker)
    emptied: list[None] = []

    class Rude(Plain):
        def __hash__(self) -> int:
            return hash(shelf)

        def __eq__(self, other: object) -> bool:
            if other is shelf:
                worker.cache_manager.reset_metadata()
                emptied.append(None)
            return equal or other is self

    rude = Rude(worker)
    with worker.cache_manager.request():
        for name in ("single", "keyed"):
            for _ in range(200):
                _ = getattr(shelf, name), getattr(shelf, name)
                value = getattr(rude, name)
                assert [type(one) for one in value] == [object]
                assert equal or value is not getattr(shelf, name)
    assert len(emptied) >= 400


def test_an_error_of_the_comparison_is_not_told(worker: Worker) -> None:
    shelf = Plain(worker)

    class Incomparable(Plain):
        def __hash__(self) -> int:
            return hash(shelf)

        def __eq__(self, other: object) -> bool:
            raise ValueError("cannot be compared")

    odd = Incomparable(worker)
    with worker.cache_manager.request():
        for name in ("single", "keyed"):
            _ = getattr(shelf, name), getattr(shelf, name)
            assert getattr(odd, name) is getattr(odd, name)


def test_an_index_that_the_memo_lacks(worker: Worker) -> None:
    shelf = Plain(worker)
    with worker.cache_manager.request():
        first = (shelf.single, shelf.keyed)
        context = copy_context()
        context.run(current_memo.set, [current_memo.get()[0]])
        assert context.run(lambda: (shelf.single, shelf.keyed)) == first


def _other_parts(shelf: Shelf) -> None:
    shelf.given = "b" if shelf.given == "a" else "a"
    _ = shelf.keyed


def _errors(shelf: Shelf) -> None:
    try:
        shelf.given = KeyError("no part")
        _ = shelf.keyed
    except KeyError:
        shelf.given = "a"


@pytest.mark.parametrize(
    ("reads", "read"),
    [
        (READS, lambda shelf: shelf.single),
        (READS, lambda shelf: shelf.keyed),
        (READS // 10, _other_parts),
        (READS // 10, _errors),
    ],
    ids=["singleton", "keyed", "other parts", "errors"],
)
def test_reads_leave_nothing_behind(
    worker: Worker, reads: int, read: Callable[[Shelf], object]
) -> None:
    shelf = Shelf(worker)
    with worker.cache_manager.request():
        _ = [(shelf.single, shelf.keyed) for _ in range(3)]
        memo = current_memo.get()
        watched: list[Any] = [shelf, shelf.single, shelf.keyed, shelf.given, memo, *memo[1:]]
        watched += [item for items in memo[1:] for item in items.values()]
        watched += [Shelf.single, Shelf.keyed]
        for _ in range(100):
            read(shelf)
        shelf.given = "a"
        gc.collect()
        before = [sys.getrefcount(one) for one in watched]
        tracemalloc.start()
        try:
            for _ in range(100):
                read(shelf)
            size, _peak = tracemalloc.get_traced_memory()
            for _ in range(reads):
                read(shelf)
            gc.collect()
            grown = tracemalloc.get_traced_memory()[0] - size
        finally:
            tracemalloc.stop()
        shelf.given = "a"
        after = [sys.getrefcount(one) for one in watched]
    assert max(abs(b - a) for a, b in zip(before, after, strict=True)) < 100
    assert grown < 20_000


def test_threads_read_while_others_invalidate(worker: Worker) -> None:
    """Threads of one request, whose memo is emptied all the time."""
    shelves = [Plain(worker, f"part {number % 3}") for number in range(12)]
    ended = threading.Event()
    wrong: list[Any] = []

    def read() -> None:
        while not ended.is_set():
            for shelf in shelves:
                for value in (shelf.single, shelf.keyed):
                    if type(value) is not list or len(value) != 1:
                        wrong.append(value)

    with worker.cache_manager.request():
        threads = [threading.Thread(target=copy_context().run, args=(read,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for number in range(200):
            worker.cache_manager.reset_metadata()
            shelves[number % 12].part = f"part {number % 3}"
        ended.set()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_a_class_that_was_read_goes(worker: Worker) -> None:
    def read_and_drop() -> list[weakref.ref[Any]]:
        class Short(Plain):
            @cached("part")
            def of_its_own(self) -> int:
                return 1

        short = Short(worker)
        with worker.cache_manager.request():
            assert [short.of_its_own, short.of_its_own] == [1, 1]
        attribute: Any = Short.of_its_own
        return [weakref.ref(Short), weakref.ref(attribute), weakref.ref(attribute.fget)]

    gone = read_and_drop()
    worker.cache_manager.evict()
    gc.collect()
    assert [found() for found in gone] == [None] * 3


def test_an_attribute_that_is_made_twice(worker: Worker) -> None:
    class Twice(CachedProperty[Any]):
        def __init__(self, retriever: Any) -> None:
            super().__init__(retriever, "env")
            super().__init__(retriever, "part")

    class Box(Plain):
        twice = Twice(lambda self: [self.part])

    box = Box(worker)
    with worker.cache_manager.request():
        for part in ("a", "b", "a"):
            box.part = part
            assert [box.twice, box.twice] == [[part]] * 2
