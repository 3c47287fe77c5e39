"""Two values are never taken for one another in the tier, whoever uses which class first."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import pytest

from coherent_cache import cached, descriptors

from ..workers import Worker
from .shelf import Shelf


class Base:
    """Its attribute is what the subclass makes of it."""

    what: str

    def __init__(self, env: Worker) -> None:
        self.env = env

    @cached
    def inherited(self) -> str:
        return self.what


class Twice(Base):
    """The first of two classes of one name in one module."""

    what = "first"

    @cached
    def value(self) -> str:
        return "first"


First = Twice


class Twice(Base):  # type: ignore[no-redef]
    """The second."""

    what = "second"

    @cached
    def value(self) -> str:
        return "second"


class Plain:
    """It is given its attributes when it is there already."""

    def __init__(self, env: Worker) -> None:
        self.env = env


Plain.one = cached(lambda self: 1)  # type: ignore[attr-defined]
Plain.two = cached(lambda self: 2)  # type: ignore[attr-defined]


class Replaced:
    """Its attribute is another one later."""

    def __init__(self, env: Worker) -> None:
        self.env = env

    @cached
    def value(self) -> str:
        return "before"


_before = Replaced.value


@pytest.fixture
def two(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Callable[[Worker], Any]], Any]:
    """Lets two processes read one after the other, each of which uses its classes as if no other
    had been used there."""
    shelf = Shelf()

    def read(function: Callable[[Worker], Any]) -> Any:
        for kind in (Base, First, Twice, Plain, Replaced):
            for each in vars(kind).values():
                if isinstance(each, descriptors.CachedPropertyBase):
                    each._forget_slots()
        _before._forget_slots()
        known = getattr(descriptors, "_known_to_others", {})
        for name in list(known):
            del known[name]
        gc.collect()
        return function(Worker(worker.database, tier=shelf))

    return read


def test_two_classes_of_one_name(two: Any) -> None:
    assert two(lambda env: (First(env).value, Twice(env).value)) == ("first", "second")
    assert two(lambda env: (Twice(env).value, First(env).value)) == ("second", "first")


def test_an_attribute_of_two_classes_of_one_name(two: Any) -> None:
    assert two(lambda env: (First(env).inherited, Twice(env).inherited)) == ("first", "second")
    assert two(lambda env: (Twice(env).inherited, First(env).inherited)) == ("second", "first")


def test_attributes_without_a_name(two: Any) -> None:
    assert two(lambda env: (Plain(env).one, Plain(env).two)) == (1, 2)
    assert two(lambda env: (Plain(env).two, Plain(env).one)) == (2, 1)


def test_an_attribute_that_was_replaced(two: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert two(lambda env: Replaced(env).value) == "before"

    def value(self: Replaced) -> str:
        return "after"

    value.__qualname__ = "Replaced.value"
    monkeypatch.setattr(Replaced, "value", cached(value))
    assert two(lambda env: Replaced(env).value) == "after"
