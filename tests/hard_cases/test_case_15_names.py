"""Hard case 15: classes inherit, override, borrow and rename attributes.

A key is made of the names in the source, so what has one name must be one thing, or be told apart
all the same; and an invalidation has to reach everything that was computed under it.
"""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

import pytest

from coherent_cache import (
    CachedProperty,
    CachedPropertyBase,
    CachedSingletonProperty,
    CacheManager,
    ConfigurationError,
    KeyTypeError,
    MissingManagerError,
    cached,
)

from ..workers import Worker

pytestmark = pytest.mark.on("sqlite-memory")


@pytest.fixture
def manager(worker: Worker) -> CacheManager:
    """A manager that has read its ledger: an invalidation drops its key and no more."""
    worker.cache_manager.invalidate("first row")
    worker.cache_manager.get("first read", lambda: None)
    return worker.cache_manager


class Data:
    """What the retrievers below compute from, instead of a table."""

    def __init__(self) -> None:
        self.value = 1
        self.calls = 0

    def read(self) -> int:
        self.calls += 1
        return self.value


@pytest.fixture
def data() -> Data:
    return Data()


def test_case_15_overridden(manager: CacheManager, data: Data) -> None:
    """The attribute of a class and that of its subclass have two values."""

    class Base:
        cache_manager = manager

        @cached
        def value(self) -> str:
            return f"base {data.read()}"

    class Derived(Base):
        @cached
        def value(self) -> str:
            return f"derived {data.read()}"

    assert (Base().value, Derived().value) == ("base 1", "derived 1")
    data.value = 2
    del Derived().value
    assert Derived().value == "derived 2"
    del Base().value
    assert Base().value == "base 2"


def test_case_15_super(manager: CacheManager, data: Data) -> None:
    """An attribute is computed from the one it overrides: `del` means both, since who deletes it
    does not know how it is made."""

    class Base:
        cache_manager = manager

        @cached
        def value(self) -> int:
            return data.read()

    class Middle(Base):
        @cached
        def value(self) -> int:
            return super().value * 10

    class Derived(Middle):
        @cached
        def value(self) -> int:
            return super().value + 5

    assert (Derived().value, Middle().value, Base().value) == (15, 10, 1)
    data.value = 2
    del Derived().value
    assert Derived().value == 25
    data.value = 3
    manager.invalidate(Derived(), "value")
    assert (Derived().value, Middle().value) == (35, 30)
    data.value = 4
    del Base().value
    assert (Derived().value, Middle().value, Base().value) == (45, 40, 4)


def test_case_15_keyed_super(manager: CacheManager, data: Data) -> None:
    """The attribute and the one it overrides may have different keys."""

    @dataclasses.dataclass
    class Base:
        name: str
        number: int = 7
        cache_manager = manager

        @cached("name")
        def value(self) -> int:
            return data.read()

    class Derived(Base):
        @cached("number")
        def value(self) -> int:
            return super().value * 10

    assert Derived("a").value == 10
    data.value = 2
    del Derived("a").value
    assert Derived("a").value == 20


def test_case_15_inherited_with_another_helper(manager: CacheManager, data: Data) -> None:
    """The retriever is inherited, and what it calls is not."""

    class Base:
        cache_manager = manager
        unit = "m"

        @cached
        def value(self) -> str:
            return f"{data.read()} {self.unit}"

    class Derived(Base):
        unit = "ft"

    assert (Base().value, Derived().value, Base().value) == ("1 m", "1 ft", "1 m")
    assert data.calls == 2
    data.value = 2
    del Base().value
    assert (Base().value, Derived().value) == ("2 m", "2 ft")
    data.value = 3
    del Derived().value
    assert (Base().value, Derived().value) == ("3 m", "3 ft")


def make_class(manager: CacheManager, result: str) -> Any:
    class Made:
        cache_manager = manager

        @cached
        def value(self) -> str:
            return result

    return Made


def test_case_15_two_classes_of_one_name(manager: CacheManager) -> None:
    """Classes made by a function, or twice in a module, have one name and so one key, and two
    values all the same; an invalidation is for both."""
    calls: list[str] = []
    one, two = make_class(manager, "one"), make_class(manager, "two")
    assert one.value.prefix == two.value.prefix
    with manager.request():
        assert (one().value, two().value, one().value) == ("one", "two", "one")
    assert (one().value, two().value) == ("one", "two")
    loads = manager.statistics.loads
    assert (one().value, two().value) == ("one", "two")
    assert manager.statistics.loads == loads
    del one().value
    assert (one().value, two().value) == ("one", "two")
    assert manager.statistics.loads == loads + 2
    assert calls == []


def test_case_15_slots(manager: CacheManager, data: Data) -> None:
    """Nothing is stored on the instance, so it needs no room there."""

    class Slotted:
        __slots__ = ("name",)
        cache_manager = manager

        def __init__(self, name: str) -> None:
            self.name = name

        @cached("name")
        def value(self) -> str:
            return f"{self.name} {data.read()}"

    assert (Slotted("a").value, Slotted("b").value, Slotted("a").value) == ("a 1", "b 1", "a 1")
    assert data.calls == 2
    data.value = 2
    del Slotted("a").value
    assert (Slotted("a").value, Slotted("b").value) == ("a 2", "b 1")


def test_case_15_class_is_made_twice(manager: CacheManager, data: Data) -> None:
    """``dataclass(slots=True)`` makes the class anew, and so do other decorators."""

    @dataclasses.dataclass(slots=True)
    class Twice:
        name: str
        cache_manager = manager

        @cached("name")
        def value(self) -> int:
            return data.read()

    assert Twice("a").value == 1
    assert Twice.value.prefix.endswith(".Twice.value")
    data.value = 2
    del Twice("a").value
    assert Twice("a").value == 2

    def again(cls: Any) -> Any:
        return type(cls.__name__, cls.__bases__, dict(cls.__dict__))

    class Plain:
        cache_manager = manager

        @cached
        def value(self) -> int:
            return data.read()

    assert Plain().value == 2
    prefix = Plain.value.prefix
    thrice = again(again(Plain))
    assert thrice.value.prefix == prefix
    data.value = 3
    del thrice().value
    assert (thrice().value, Plain().value) == (3, 3)


def test_case_15_renamed_by_assignment(manager: CacheManager, data: Data) -> None:
    """Another name for the attribute, or another class that borrows it, is the same key."""

    class First:
        cache_manager = manager

        @cached
        def value(self) -> int:
            return data.read()

        alias = value

    class Second:
        cache_manager = manager
        borrowed = First.value

    assert (First().value, First().alias, Second().borrowed) == (1, 1, 1)
    assert data.calls == 2  # one a class: the second may compute something else
    assert Second.borrowed.prefix.endswith("First.value")
    for instance, name in ((First(), "value"), (First(), "alias"), (Second(), "borrowed")):
        data.value += 1
        delattr(instance, name)
        assert First().value == First().alias == Second().borrowed == data.value


def test_case_15_set_on_the_class_afterwards(manager: CacheManager, data: Data) -> None:
    """``setattr`` announces no name: the function's own is taken."""

    class Late:
        cache_manager = manager

    def value(self: Any) -> int:
        return data.read()

    def other(self: Any) -> str:
        return f"other {data.read()}"

    Late.value = cached(value)  # type: ignore[attr-defined]
    Late.other = cached(other)  # type: ignore[attr-defined]
    Late.lambdas = cached(lambda self: "one")  # type: ignore[attr-defined]
    Late.lambdas_too = cached(lambda self: "two")  # type: ignore[attr-defined]
    late: Any = Late()
    assert (late.value, late.other, late.lambdas, late.lambdas_too) == (1, "other 1", "one", "two")
    data.value = 2
    del late.value
    assert (late.value, late.other) == (2, "other 1")


def test_case_15_what_a_class_shows(manager: CacheManager) -> None:
    class Documented:
        cache_manager = manager

        @cached
        def single(self) -> int:
            """What it says."""
            return 1

        @cached(key="single")
        def keyed(self) -> int:
            return 2

        explicit = CachedSingletonProperty(lambda self: 3, "Given.")

    assert isinstance(Documented.single, CachedSingletonProperty)
    assert isinstance(Documented.keyed, CachedProperty)
    assert isinstance(Documented.single, CachedPropertyBase)
    assert isinstance(Documented.single, property)
    assert inspect.getdoc(Documented.single) == "What it says."
    assert Documented.explicit.__doc__ == "Given."
    assert Documented.keyed.__doc__ is None
    assert str(inspect.signature(Documented.single.fget)) == "(self) -> 'int'"  # type: ignore[arg-type]
    assert str(inspect.signature(Documented.single)) == "(self) -> 'int'"  # type: ignore[arg-type]
    assert Documented.single.__name__ == "single"
    assert Documented().keyed == 2


def test_case_15_attributes_of_the_function(manager: CacheManager) -> None:
    """A function may carry attributes of its own (other decorators put them there)."""

    def value(self: Any) -> int:
        return 1

    value.name = value.owner = value.key = value.prefix = "not ours"  # type: ignore[attr-defined]
    value.retriever = value.is_async = "not ours"  # type: ignore[attr-defined]

    class Holder:
        cache_manager = manager
        single = cached(value)
        keyed = cached("part")(value)
        part = "p"

    assert Holder.single.prefix.endswith("Holder.single")
    assert Holder.keyed.prefix.endswith("Holder.keyed")
    assert (Holder().single, Holder().keyed) == (1, 1)


def test_case_15_keys_are_left_alone(manager: CacheManager, data: Data) -> None:
    """The attribute that names the value stays what it is, and an instance of the same name as the
    cached attribute does not get in the way."""

    class Keyed:
        cache_manager = manager

        def __init__(self, name: Any) -> None:
            self.name = name
            self.__dict__["by_name"] = "in the way"

        @cached("name")
        def by_name(self) -> Any:
            return self.name, data.read()

        @cached(lambda self: (self.name, 1))
        def by_callable(self) -> int:
            return data.read()

        @cached(key=lambda self: self.name)
        def by_key(self) -> int:
            return data.read()

        @cached(key="name")
        def by_key_name(self) -> int:
            return data.read()

    keyed = Keyed("a")
    assert (keyed.by_name, keyed.by_callable, keyed.by_key, keyed.by_key_name) == (
        ("a", 1),
        1,
        1,
        1,
    )
    assert vars(keyed) == {"name": "a", "by_name": "in the way"}
    data.value = 2
    del keyed.by_name
    assert (keyed.by_name, Keyed("b").by_name, keyed.by_callable) == (("a", 2), ("b", 2), 1)
    keyed.name = "b"
    assert keyed.by_name == ("b", 2)
    assert Keyed.by_callable.key_of(keyed).endswith("Keyed.by_callable[('b',1,)]")


def test_case_15_set(manager: CacheManager) -> None:
    class Holder:
        cache_manager = manager

        @cached
        def value(self) -> int:
            return 1

    with pytest.raises(AttributeError, match="'del' the attribute"):
        Holder().value = 2  # type: ignore[misc]
    assert Holder().value == 1


def test_case_15_wrong_decoration() -> None:
    with pytest.raises(ConfigurationError, match="a key or a method"):
        cached(lambda self: 1, key="name")  # type: ignore[call-overload]
    with pytest.raises(ConfigurationError, match="takes a method"):
        cached()  # type: ignore[call-overload]
    with pytest.raises(ConfigurationError, match="takes a method"):
        cached(5)  # type: ignore[call-overload]


def test_case_15_missing_manager() -> None:
    class Lost:
        @cached
        def value(self) -> int:
            return 1

    with pytest.raises(MissingManagerError, match=r"Lost\.value is cached.*'cache_manager'"):
        Lost().value  # noqa: B018
    with pytest.raises(MissingManagerError, match=r"Lost\.value is cached"):
        del Lost().value


@pytest.mark.parametrize("name", [None, object(), [1], {1: 2}])
def test_case_15_key_that_cannot_be(manager: CacheManager, name: Any) -> None:
    class Keyed:
        cache_manager = manager

        @cached("name")
        def value(self) -> int:
            return 1

    keyed = Keyed()
    keyed.name = name  # type: ignore[attr-defined]
    for use in (lambda: keyed.value, lambda: delattr(keyed, "value")):
        with pytest.raises(KeyTypeError, match=r"Keyed\.value, keyed by 'name'"):
            use()
