"""The short ways that a read may take come to what the long one would have."""

from __future__ import annotations

import gc
import threading
import weakref
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any

import pytest

from coherent_cache import CachedProperty, cached
from coherent_cache.memo import NO_MEMO, current_memo

from .workers import PageText, Worker

pytestmark = pytest.mark.on("sqlite-wal")  # the database plays no part in it


class Shop:
    """Counts its loads in what it returns."""

    loads = 0

    def __init__(self, env: Any, part: Any = "a") -> None:
        self.env = env
        self.part = part

    def _load(self) -> tuple[int, Any]:
        Shop.loads += 1
        return (Shop.loads, self.part)

    @cached
    def single(self) -> tuple[int, Any]:
        return self._load()

    @cached("part")
    def keyed(self) -> tuple[int, Any]:
        return self._load()

    @cached(lambda self: (self.part, 1))
    def called(self) -> tuple[int, Any]:
        return self._load()


class Branch(Shop):
    """The same attributes, and values of its own."""


def test_the_third_read_asks_nobody(worker: Worker) -> None:
    for name in ("single", "keyed"):
        shop = Shop(worker)
        with worker.cache_manager.request():
            first = getattr(shop, name)
            assert getattr(shop, name) is first
            shop.env = None  # whoever asked for the manager would fail
            assert getattr(shop, name) is first


def test_a_key_part_that_changes(worker: Worker) -> None:
    """An object may get another name within a request; it must not keep the value of its first."""
    shop = Shop(worker, "a")
    with worker.cache_manager.request():
        for part in ("a", "b", "a", 1, True, 1.0, "1", 1):
            shop.part = part
            for _ in range(3):
                assert shop.keyed[1] is part or (shop.keyed[1], type(shop.keyed[1])) == (
                    part,
                    type(part),
                )


def test_parts_that_are_equal_and_not_the_same(worker: Worker) -> None:
    with worker.cache_manager.request():
        shops = [Shop(worker, part) for part in (1, True, 1.0, "1")]
        for _ in range(3):
            assert len({shop.keyed for shop in shops}) == len({s.keyed[0] for s in shops}) == 4


def test_classes_read_in_turn(worker: Worker) -> None:
    """What is at hand is that of the class that was read last."""
    shop, branch = Shop(worker), Branch(worker)
    with worker.cache_manager.request():
        values = [(shop.single, branch.single, shop.keyed, branch.keyed) for _ in range(4)]
    assert len(set(values)) == 1
    assert len(set(values[0])) == 4
    with worker.cache_manager.request():
        assert (branch.single, shop.single) == (values[0][1], values[0][0])


def test_classes_read_by_many_threads(worker: Worker) -> None:
    kinds = [type(f"Kind{number}", (Shop,), {}) for number in range(8)]
    shops = [kind(worker, "a") for kind in kinds]
    expected = [(shop.single, shop.keyed) for shop in shops]
    wrong: list[Any] = []
    start = threading.Barrier(len(shops))

    def read(number: int) -> None:
        start.wait()
        for _ in range(300):
            with worker.cache_manager.request():
                found = (shops[number].single, shops[number].keyed)
                if found != expected[number]:
                    wrong.append((number, found))

    threads = [threading.Thread(target=read, args=(number,)) for number in range(len(shops))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_managers_are_told_apart(worker: Worker, other: Worker) -> None:
    """Two managers, a view of one open: an instance of the other finds its own."""
    mine, theirs = Shop(worker), Shop(other)
    with worker.cache_manager.request():
        assert [mine.single, mine.single] != [theirs.single, theirs.single]
        assert [mine.keyed, mine.keyed] != [theirs.keyed, theirs.keyed]
        with other.cache_manager.request():
            inner = [theirs.single, theirs.single, mine.single, mine.single]
        assert inner == [theirs.single, theirs.single, mine.single, mine.single]


def test_each_instance_is_memorised(worker: Worker) -> None:
    shops = [Shop(worker) for _ in range(3)]
    with worker.cache_manager.request():
        values = {(shop.single, shop.keyed) for shop in shops for _ in range(2)}
        for shop in shops:
            shop.env = None
        assert {(shop.single, shop.keyed) for shop in shops} == values
        assert len(values) == 1


def test_what_is_memorised_is_a_dependency(worker: Worker, other: Worker) -> None:
    """A retriever reads what its request has read before: the memo must not keep that from it."""

    class Sum:
        env = worker

        @cached
        def value(self) -> str | None:
            return PageText(worker, "Front").text

    worker.write("Front", "old")
    front = PageText(worker, "Front")
    total = Sum()
    with worker.cache_manager.request():
        assert [front.text, front.text, front.text] == ["old"] * 3
        assert total.value == "old"
    other.write("Front", "new")
    with worker.cache_manager.request():
        assert total.value == "new"


def test_an_ended_view_memorises_nothing(worker: Worker, other: Worker) -> None:
    with worker.cache_manager.request() as view:
        assert [worker.wiki.names, worker.wiki.names] == [frozenset()] * 2
        background = copy_context()
        changes = view.changes
    view.memorise(1, worker.wiki, "old", changes)
    other.write("Front", "Hello")
    assert background.run(lambda: worker.wiki.names) == {"Front"}
    assert background.run(current_memo.get) == NO_MEMO


def test_an_attribute_younger_than_the_view(worker: Worker) -> None:
    with worker.cache_manager.request():

        class Late:
            env = worker
            name = "late"

            @cached
            def single(self) -> object:
                return object()

            @cached("name")
            def keyed(self) -> object:
                return object()

        late = Late()
        assert late.single is late.single is late.single
        assert late.keyed is late.keyed is late.keyed


def test_a_class_that_goes_is_not_kept() -> None:
    class Short:
        @cached
        def single(self) -> int:
            return 1

        @cached("name")
        def keyed(self) -> int:
            return 1

    gone = weakref.ref(Short)
    del Short
    gc.collect()
    assert gone() is None


def test_instances_that_say_what_they_are_equal_to(worker: Worker) -> None:
    """Equal instances may have different managers or parts; unhashable ones have no place in a
    memo."""

    @dataclass
    class Unhashable:
        env: Any
        name: str

        @cached("name")
        def value(self) -> str:
            return self.name

        @cached
        def single(self) -> str:
            return "single"

    @dataclass(frozen=True)
    class AllEqual:
        env: Any
        name: str

        def __hash__(self) -> int:
            return 1

        def __eq__(self, other: object) -> bool:
            return True

        @cached("name")
        def value(self) -> str:
            return self.name

    with worker.cache_manager.request():
        for kind in (Unhashable, AllEqual):
            a, b = kind(worker, "a"), kind(worker, "b")
            assert [(a.value, b.value) for _ in range(3)] == [("a", "b")] * 3
        assert [Unhashable(worker, "a").single for _ in range(3)] == ["single"] * 3


def test_an_error_of_the_retriever_is_told_plainly(worker: Worker) -> None:
    """Not as one that came up during the handling of the library's own."""

    class Broken:
        env = worker
        name = "a"
        calls = 0

        @cached
        def single(self) -> int:
            Broken.calls += 1
            raise KeyError("the retriever's own")

        @cached("name")
        def keyed(self) -> int:
            Broken.calls += 1
            raise KeyError("the retriever's own")

    with worker.cache_manager.request():
        for name in ("single", "keyed"):
            Broken.calls = 0
            with pytest.raises(KeyError, match="the retriever's own") as raised:
                getattr(Broken(), name)
            assert raised.value.__context__ is None
            assert Broken.calls == 1


def test_a_key_rule_of_an_applications_own(worker: Worker) -> None:
    class ByTenant(CachedProperty[Any]):
        def key_of(self, instance: Any) -> str:
            return f"{instance.tenant}/{super().key_of(instance)}"

    class Doc:
        env = worker
        name = "doc"

        def __init__(self, tenant: str) -> None:
            self.tenant = tenant

        def _load(self) -> str:
            return self.tenant

        text = ByTenant(_load, "name")

    one, two = Doc("one"), Doc("two")
    with worker.cache_manager.request():
        assert [(one.text, two.text) for _ in range(3)] == [("one", "two")] * 3


def test_a_name_that_is_no_identifier(worker: Worker) -> None:
    class Odd:
        env = worker

        @cached("no name")
        def value(self) -> int:
            return 1

    odd = Odd()
    with pytest.raises(AttributeError, match="no name"):
        _ = odd.value
    setattr(odd, "no name", "x")
    assert odd.value == 1


def test_reset_metadata_empties_the_memo(worker: Worker, other: Worker) -> None:
    with worker.cache_manager.request():
        assert [worker.wiki.names for _ in range(3)] == [frozenset()] * 3
        other.write("Front", "Hello")
        assert worker.wiki.names == frozenset()
        worker.cache_manager.reset_metadata()
        assert worker.wiki.names == {"Front"}
