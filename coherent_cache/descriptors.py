"""`cached`: a method that becomes an attribute whose value lives in this process.

The family: `CachedPropertyBase` inherits from `property`; `CachedSingletonProperty` has one value
for all instances, `CachedProperty` one for each key part that an instance names.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from .entry import Slot
from .errors import ConfigurationError, KeyTypeError
from .keys import make_key
from .resolve import manager_of

if TYPE_CHECKING:
    from typing import Self

_T = TypeVar("_T")


class CachedPropertyBase(property, Generic[_T]):
    """What cached attributes have in common.

    Reading the attribute gives the value, ``del`` invalidates it, and reading it on the class
    gives the descriptor.  If the retriever is a coroutine function the attribute is awaitable.
    """

    def __init__(self, retriever: Callable[[Any], _T], doc: str | None = None) -> None:
        super().__init__(retriever, doc=doc)
        self.retriever = retriever
        #: The name it was first given in a class body, and that class.
        self.name: str | None = None
        self.owner: type | None = None
        function: Any = inspect.unwrap(retriever)
        #: ``module.Class.attribute``, of the class that defines it.
        self.prefix = f"{function.__module__}.{_name_of(function)}"
        self.is_async = inspect.iscoroutinefunction(retriever)
        functools.update_wrapper(self, retriever, updated=())  # type: ignore[arg-type]
        if doc is not None:
            self.__doc__ = doc

    def __set_name__(self, owner: type, name: str) -> None:
        # The first name stays: an alias is the same attribute, and a class decorator that
        # builds the class anew (dataclass(slots=True)) announces it again.
        if self.name is None or (
            self.owner is not None
            and self.owner.__module__ == owner.__module__
            and self.owner.__qualname__ == owner.__qualname__
            and self.name == name
        ):
            self.owner, self.name = owner, name
            self.prefix = f"{owner.__module__}.{owner.__qualname__}.{name}"

    def key_of(self, instance: Any) -> str:
        """The key of the attribute's value on *instance*."""
        return self.prefix

    @overload
    def __get__(self, instance: None, owner: type | None = None, /) -> Self: ...
    @overload
    def __get__(self, instance: object, owner: type | None = None, /) -> _T: ...
    def __get__(self, instance: Any, owner: type | None = None, /) -> Any:
        if instance is None:
            return self
        manager = manager_of(instance, self.prefix)
        # Instances of a subclass, or of another class with the same name, may compute
        # something else under the same key: they have a value of their own.
        slot = Slot(self.key_of(instance), (self, type(instance)))
        if self.is_async:
            return manager.aget_slot(slot, lambda: self.retriever(instance))  # type: ignore
        return manager.get_slot(slot, lambda: self.retriever(instance))

    def __set__(self, instance: Any, value: Any, /) -> None:
        raise AttributeError(
            f"{self.prefix} is cached and cannot be set: write the data it is computed from, and "
            f"'del' the attribute in the same transaction"
        )

    def __delete__(self, instance: Any, /) -> None:
        manager_of(instance, self.prefix).invalidate(self.key_of(instance))


class CachedSingletonProperty(CachedPropertyBase[_T]):
    """A cached attribute with one value for all instances of its class.

    Called with a function it is the decorator of a keyed attribute instead: its own function
    then names the key part (``@cached(lambda self: self.id)``).
    """

    def __call__(self, retriever: Callable[[Any], _R]) -> CachedProperty[_R]:
        """Make a keyed attribute of *retriever*."""
        return CachedProperty(retriever, key=self.retriever)


class CachedProperty(CachedPropertyBase[_T]):
    """A cached attribute with one value for each key part.

    :param key: the name of an attribute of the instance, or a callable of it, that gives the part:
        text, a number, a UUID, a date, an Enum member, or a tuple of these.
    """

    def __init__(
        self,
        retriever: Callable[[Any], _T],
        key: str | Callable[[Any], Any],
        doc: str | None = None,
    ) -> None:
        super().__init__(retriever, doc)
        self.key = key

    def key_of(self, instance: Any) -> str:
        """See `CachedPropertyBase.key_of`."""
        part = getattr(instance, self.key) if isinstance(self.key, str) else self.key(instance)
        try:
            return make_key(self.prefix, part)
        except KeyTypeError as error:
            named = repr(self.key) if isinstance(self.key, str) else "the callable given"
            raise KeyTypeError(f"{self.prefix}, keyed by {named}: {error}") from None


def _name_of(function: Any) -> str:
    """A name until the class body gives one; objects that are called may have none."""
    return str(getattr(function, "__qualname__", type(function).__qualname__))


_R = TypeVar("_R")


class _KeyedDecorator:
    """What ``@cached("name")`` returns."""

    def __init__(self, key: str | Callable[[Any], Any]) -> None:
        self._key = key

    def __call__(self, retriever: Callable[[Any], _R]) -> CachedProperty[_R]:
        return CachedProperty(retriever, key=self._key)


@overload
def cached(retriever: Callable[[Any], _T], /) -> CachedSingletonProperty[_T]: ...
@overload
def cached(key: str, /) -> _KeyedDecorator: ...
@overload
def cached(*, key: str | Callable[[Any], Any]) -> _KeyedDecorator: ...
def cached(
    retriever: Callable[[Any], Any] | str | None = None,
    /,
    *,
    key: str | Callable[[Any], Any] | None = None,
) -> CachedSingletonProperty[Any] | _KeyedDecorator:
    """Turn a method into a cached attribute.

    ::

        @cached
        def pages(self): ...            # one value

        @cached("name")
        def metadata(self): ...         # one value for each name

        @cached(key=lambda self: (self.host, self.port))
        def banner(self): ...

    The method computes the value from the database; the value must not be changed by those who
    read it, since they all share it.  ``del obj.pages`` invalidates it with the open transaction.
    """
    if retriever is not None and key is not None:
        raise ConfigurationError("cached() takes a key or a method, not both")
    part = key if key is not None else retriever
    if isinstance(part, str):
        return _KeyedDecorator(part)
    if key is not None:
        return _KeyedDecorator(key)
    if not callable(retriever):
        raise ConfigurationError(
            "cached() takes a method, the name of an attribute, or key=; use @cached, "
            "@cached('name') or @cached(key=...)"
        )
    return CachedSingletonProperty(retriever)
