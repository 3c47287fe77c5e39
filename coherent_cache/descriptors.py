"""`cached`: a method that becomes an attribute whose value lives in this process.

The family: `CachedPropertyBase` inherits from `property`; `CachedSingletonProperty` has one value
for all instances, `CachedProperty` one for each key part that an instance names.
"""

from __future__ import annotations

import functools
import inspect
import sys
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar, overload

from .entry import Slot, Variant
from .errors import ConfigurationError, KeyTypeError
from .getters import UNKNOWN, Getter, keyed_getter, known, singleton_getter
from .hit import Property
from .keys import part_text
from .once import Once, check_once
from .resolve import manager_of

if TYPE_CHECKING:
    from typing import Self

_T = TypeVar("_T")


class CachedPropertyBase(Property, Generic[_T]):
    """What cached attributes have in common.

    Reading the attribute gives the value, ``del`` invalidates it, and reading it on the class
    gives the descriptor.  If the retriever is a coroutine function the attribute is awaitable.
    """

    def __init__(
        self,
        retriever: Callable[[Any], _T],
        doc: str | None = None,
        *,
        tier: bool = True,
        once: Once | None = None,
    ) -> None:
        check_once(once)
        self.retriever = retriever
        #: Whether its values may go to the manager's tier.
        self.tier = tier
        #: Whether one process computes it for all others that share the tier: "host", "cluster".
        self.once: Once | None = once
        #: The name it was first given in a class body, and that class.
        self.name: str | None = None
        self.owner: type | None = None
        function: Any = inspect.unwrap(retriever)
        self._slots: weakref.WeakKeyDictionary[type, _Slots]
        #: The class that was asked for last, as mostly there is one only, and its slots: by part,
        #: and as they are.  One tuple, so that no thread sees the class of one and the slots of
        #: another; in a list, which the getter of a keyed attribute has.  The class comes first
        #: only if its instances are equal to themselves alone: another one might be taken for it.
        self.last: list[_Last] = [_NOTHING]
        #: ``module.Class.attribute``, of the class that defines it.
        self.prefix = f"{function.__module__}.{_name_of(function)}"
        self.is_async = inspect.iscoroutinefunction(retriever)
        self._forget_slots()
        # `property` is given the fast getter; ``__get__`` is its own, also on the class.
        super().__init__(functools.wraps(retriever)(self._make_getter()), doc=doc)
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
            self._forget_slots()

    def key_of(self, instance: Any) -> str:
        """The key of the attribute's value on *instance*."""
        return self.prefix

    def keys_of(self, instance: Any) -> frozenset[str]:
        """The keys that invalidating the attribute of *instance* invalidates: its own, and those
        of the attributes that it overrides, which it may be computed from (``super().pages``)."""
        key = self.key_of(instance)
        name = self.name or ""
        kinds = type(instance).__mro__
        for kind in kinds:
            if kind.__dict__.get(name, self) is not self:
                break
        else:
            return frozenset((key,))
        keys = {key}
        overridden = False
        for kind in kinds:
            found = kind.__dict__.get(name)
            if overridden and isinstance(found, CachedPropertyBase):
                try:
                    keys.add(found.key_of(instance))
                except Exception:  # it has no value for this instance
                    continue
            overridden = overridden or found is self
        return frozenset(keys)

    if TYPE_CHECKING:

        @overload
        def __get__(self, instance: None, owner: type | None = None, /) -> Self: ...
        @overload
        def __get__(self, instance: object, owner: type | None = None, /) -> _T: ...
        def __get__(self, instance: Any, owner: type | None = None, /) -> Any: ...

    def _make_getter(self) -> Getter:
        """The function that `property` calls; see `getters`."""
        return lambda instance: self._read(instance)

    def slot_of(self, instance: Any) -> Slot:
        """Where the value of *instance* lives."""
        key = self.key_of(instance)
        slots = self._slots_of(type(instance))
        slot = slots.by_part.get(key)
        if slot is None:
            slot = Slot(key, slots)
            slots.keep(key, slot)
        return slot

    def _read(self, instance: Any) -> Any:
        """Read the attribute, whatever it takes."""
        return self._read_slot(instance, self.slot_of(instance))

    def _read_slot(self, instance: Any, slot: Slot) -> Any:
        manager = manager_of(instance, self.prefix)
        if self.is_async:
            return manager.aget_slot(slot, lambda: self.retriever(instance), self.once)  # type: ignore
        return manager.get_slot(slot, lambda: self.retriever(instance), self.once)

    def _slots_of(self, kind: type) -> _Slots:
        """The slots of instances of *kind*.

        Instances of a subclass, or of another class with the same name, may compute something
        else under the same key: they have values of their own.
        """
        kept = self.last[0]
        if kept[2] is kind:
            return kept[3]
        found = self._slots.get(kind)
        if found is None:
            tier = self.tier and self._is_known_by_its_name()
            found = self._slots.setdefault(kind, _Slots(kind, tier=tier))
        self.last[0] = (kind if found.by_identity else None, found.by_part, kind, found)
        return found

    def _is_known_by_its_name(self) -> bool:
        """Whether it is what stands under its key's name in every process: not if it was put into
        a class that was there already, where two may have one name.
        (Test: test_attributes_without_a_name.)"""
        owner, name = self.owner, self.name
        return (
            owner is not None
            and name is not None
            and vars(owner).get(name) is self
            and _stands_at_its_name(owner)
        )

    def _forget_slots(self) -> None:
        self._slots = weakref.WeakKeyDictionary()
        self.last[0] = _NOTHING

    def __set__(self, instance: Any, value: Any, /) -> None:
        raise AttributeError(
            f"{self.prefix} is cached and cannot be set: write the data it is computed from, and "
            f"'del' the attribute in the same transaction"
        )

    def __delete__(self, instance: Any, /) -> None:
        manager_of(instance, self.prefix).invalidate_keys(self.keys_of(instance))


class CachedSingletonProperty(CachedPropertyBase[_T]):
    """A cached attribute with one value for all instances of its class.

    Called with a function it is the decorator of a keyed attribute instead: its own function
    then names the key part (``@cached(lambda self: self.id)``).
    """

    def __call__(self, retriever: Callable[[Any], _R]) -> CachedProperty[_R]:
        """Make a keyed attribute of *retriever*."""
        return CachedProperty(retriever, key=self.retriever, tier=self.tier, once=self.once)

    def _make_getter(self) -> Getter:
        if self.is_async or type(self).key_of is not CachedPropertyBase.key_of:
            return super()._make_getter()
        return singleton_getter(self, self._read_known)

    def _read_known(self, index: int, instance: Any) -> Any:
        slot = self.slot_of(instance)
        value = known(index, instance, slot)
        return self._read_slot(instance, slot) if value is UNKNOWN else value


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
        *,
        tier: bool = True,
        once: Once | None = None,
    ) -> None:
        self.key = key
        super().__init__(retriever, doc, tier=tier, once=once)

    def key_of(self, instance: Any) -> str:
        """See `CachedPropertyBase.key_of`."""
        return self._key_of_part(self._part_of(instance))

    def _part_of(self, instance: Any) -> Any:
        return getattr(instance, self.key) if isinstance(self.key, str) else self.key(instance)

    def _key_of_part(self, part: Any) -> str:
        try:
            return f"{self.prefix}[{part_text(part)}]"  # as `make_key` writes it
        except KeyTypeError as error:
            named = repr(self.key) if isinstance(self.key, str) else "the callable given"
            raise KeyTypeError(f"{self.prefix}, keyed by {named}: {error}") from None

    def slot_of(self, instance: Any) -> Slot:
        """See `CachedPropertyBase.slot_of`."""
        if type(self).key_of is not CachedProperty.key_of:
            return super().slot_of(instance)
        return self._slot_of_part(instance, self._part_of(instance))

    def _slot_of_part(self, instance: Any, part: Any) -> Slot:
        slots = self._slots_of(type(instance))
        # By part only where equal parts are the same part: 1 == True == 1.0.
        if type(part) is not str and type(part) is not int:
            return Slot(self._key_of_part(part), slots)
        slot = slots.by_part.get(part)
        if slot is None:
            slot = Slot(self._key_of_part(part), slots)
            slots.keep(part, slot)
        return slot

    def _make_getter(self) -> Getter:
        if (
            self.is_async
            or type(self).key_of is not CachedProperty.key_of
            or not isinstance(self.key, str)
        ):
            return super()._make_getter()
        return keyed_getter(self, self.key, self._read_part, self._read)

    def _read_part(self, index: int, instance: Any, part: Any) -> Any:
        _, by_part, kind, _ = self.last[0]
        slot = None
        if kind is type(instance) and type(part) is str:
            slot = by_part.get(part)
        if slot is None:
            slot = self._slot_of_part(instance, part)
        value = known(index, instance, slot, part)
        return self._read_slot(instance, slot) if value is UNKNOWN else value


class _Slots(Variant):
    """The slots of an attribute on instances of one class, and their variant."""

    def __init__(self, kind: type, *, tier: bool) -> None:
        #: By key part, or by key where there is none: both take longer to write than to find.
        self.by_part: dict[Any, Slot] = {}
        self.shared_as = name_for_others(kind) if tier else None
        #: Whether an instance is equal to itself only.
        self.by_identity = vars(object)["__hash__"] is kind.__hash__

    def keep(self, part: Any, slot: Slot) -> None:
        """Remember the slot of *part*, for a while."""
        if len(self.by_part) >= _REMEMBERED_PARTS:
            for each in list(self.by_part.values()):
                # A value stays reachable by those slots only that are found.
                entry, each.entry = each.entry, None
                if entry is not None and entry.place is each:
                    entry.place = None
            self.by_part.clear()
        self.by_part[part] = slot


_Last: TypeAlias = tuple["type | None", "dict[Any, Slot]", "type | None", _Slots]

_NOTHING: _Last = (None, {}, None, _Slots(object, tier=False))

#: How many key parts an attribute remembers the text of, for each class.
_REMEMBERED_PARTS = 4096


#: The classes that have a name for other processes, by that name.
_known_to_others: weakref.WeakValueDictionary[str, type] = weakref.WeakValueDictionary()


def name_for_others(kind: type) -> str | None:
    """What *kind* is called in every process of the application; None if that is not sure: a class
    made in a function or a script, one of two of its name that is not found by it, or the second
    that was used."""
    if not _stands_at_its_name(kind):
        return None
    name = f"{kind.__module__}.{kind.__qualname__}"
    return name if _known_to_others.setdefault(name, kind) is kind else None


def _stands_at_its_name(kind: type) -> bool:
    """Whether *kind* is what its name stands for in its module.

    The interleaving this guards against: of two classes of one name one process uses this one
    first, and another that one.  (Test: test_an_attribute_of_two_classes_of_one_name.)
    """
    if kind.__module__ == "__main__":
        return False
    found: Any = sys.modules.get(kind.__module__)
    for part in kind.__qualname__.split("."):
        found = getattr(found, "__dict__", {}).get(part)
    return found is kind


def _name_of(function: Any) -> str:
    """A name until the class body gives one; objects that are called may have none."""
    return str(getattr(function, "__qualname__", type(function).__qualname__))


_R = TypeVar("_R")


class _KeyedDecorator:
    """What ``@cached("name")`` returns."""

    def __init__(self, key: str | Callable[[Any], Any], tier: bool, once: Once | None) -> None:
        self._key = key
        self._tier = tier
        self._once: Once | None = once

    def __call__(self, retriever: Callable[[Any], _R]) -> CachedProperty[_R]:
        return CachedProperty(retriever, key=self._key, tier=self._tier, once=self._once)


class _SingletonDecorator:
    """What ``@cached(tier=False)`` and ``@cached(once="host")`` return."""

    def __init__(self, tier: bool, once: Once | None) -> None:
        self._tier = tier
        self._once: Once | None = once

    def __call__(self, retriever: Callable[[Any], _R]) -> CachedSingletonProperty[_R]:
        return CachedSingletonProperty(retriever, tier=self._tier, once=self._once)


@overload
def cached(retriever: Callable[[Any], _T], /) -> CachedSingletonProperty[_T]: ...
@overload
def cached(key: str, /, *, tier: bool = True, once: Once | None = None) -> _KeyedDecorator: ...
@overload
def cached(
    *, key: str | Callable[[Any], Any], tier: bool = True, once: Once | None = None
) -> _KeyedDecorator: ...
@overload
def cached(*, tier: bool, once: Once | None = None) -> _SingletonDecorator: ...
@overload
def cached(*, once: Once, tier: bool = True) -> _SingletonDecorator: ...
def cached(
    retriever: Callable[[Any], Any] | str | None = None,
    /,
    *,
    key: str | Callable[[Any], Any] | None = None,
    tier: bool = True,
    once: Once | None = None,
) -> CachedSingletonProperty[Any] | _KeyedDecorator | _SingletonDecorator:
    """Turn a method into a cached attribute.

    ::

        @cached
        def pages(self): ...            # one value

        @cached("name")
        def metadata(self): ...         # one value for each name

        @cached(key=lambda self: (self.host, self.port))
        def banner(self): ...

        @cached(tier=False)
        def openings(self): ...         # stays in this process

        @cached(once="host")
        def report(self): ...           # one process computes it for those of its host

    The method computes the value from the database; the value must not be changed by those who
    read it, since they all share it.  ``del obj.pages`` invalidates it with the open transaction.
    """
    if retriever is not None and key is not None:
        raise ConfigurationError("cached() takes a key or a method, not both")
    part = key if key is not None else retriever
    if isinstance(part, str):
        return _KeyedDecorator(part, tier, once)
    if key is not None:
        return _KeyedDecorator(key, tier, once)
    if retriever is None and (not tier or once is not None):
        return _SingletonDecorator(tier, once)
    if not callable(retriever):
        raise ConfigurationError(
            "cached() takes a method, the name of an attribute, or key=; use @cached, "
            "@cached('name') or @cached(key=...)"
        )
    return CachedSingletonProperty(retriever, tier=tier, once=once)
