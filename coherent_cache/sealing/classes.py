"""Classes of the application that a `TypedSerializer` may write and read.

A registered class is named in the payload; reading looks that name up among the registered ones.
Nothing is ever imported because a payload says so.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from ..errors import ConfigurationError


@dataclass(frozen=True, kw_only=True)
class PlainForm:
    """How instances of *cls* are turned into a value that can be written, and back.

    *to_plain* takes an instance and returns a value of types that the serializer knows (registered
    ones included); *from_plain* takes that value and returns an instance of exactly *cls*, and
    may raise anything if it cannot.  *name* stands for the class in payloads; the default is its
    module and qualified name.  Both callables are called without any lock held.

    .. versionadded:: 0.1.0
    """

    cls: type
    to_plain: Callable[[Any], Any]
    from_plain: Callable[[Any], Any]
    name: str = ""

    @property
    def text(self) -> str:
        """What stands for the class in payloads."""
        return self.name or f"{self.cls.__module__}.{self.cls.__qualname__}"


def plain_forms(
    classes: Iterable[type | PlainForm], known: Iterable[type]
) -> dict[type, PlainForm]:
    """The forms of *classes*; dataclasses, NamedTuples and Enums have one by themselves.

    Raises `ConfigurationError` for other classes, for *known* ones, and for two of one name.
    """
    found: dict[type, PlainForm] = {}
    names: dict[str, type] = {}
    for given in classes:
        form = given if isinstance(given, PlainForm) else _form_of(given)
        if form.cls in found or form.cls in known:
            raise ConfigurationError(
                f"{form.cls.__qualname__} is registered with a serializer that already knows it"
            )
        if form.text in names:
            raise ConfigurationError(
                f"two classes are registered as {form.text!r}; give one a name of its own: "
                f"PlainForm(cls=…, to_plain=…, from_plain=…, name='…')"
            )
        found[form.cls] = form
        names[form.text] = form.cls
    return found


def _form_of(cls: Any) -> PlainForm:
    if not isinstance(cls, type):
        raise ConfigurationError(f"classes= takes classes and PlainForms, not {cls!r}")
    if issubclass(cls, enum.Flag):
        return PlainForm(cls=cls, to_plain=lambda member: member._value_, from_plain=cls)
    if issubclass(cls, enum.Enum):
        # Not `cls.__getitem__`: of an Enum of texts that is the text's.
        return PlainForm(
            cls=cls, to_plain=lambda member: member._name_, from_plain=lambda name: cls[name]
        )
    if issubclass(cls, tuple) and hasattr(cls, "_fields"):
        return _form_of_named_tuple(cls)
    if dataclasses.is_dataclass(cls) and not _has_state_besides_fields(cls):
        return _form_of_dataclass(cls)
    raise ConfigurationError(
        f"{cls.__qualname__} is no plain dataclass, NamedTuple or Enum: register it with "
        f"PlainForm(cls={cls.__name__}, to_plain=…, from_plain=…)"
    )


def _form_of_named_tuple(cls: Any) -> PlainForm:
    names = tuple(cls._fields)

    def to_plain(instance: Any) -> Any:
        _refuse_other_attributes(instance, ())
        return (names, tuple(instance))

    def from_plain(plain: Any) -> Any:
        written, items = plain
        if written != names or len(items) != len(names):
            raise ValueError("the fields are not those of the class")
        # Not cls(*items): what stands in the payload runs no code of the class.
        return tuple.__new__(cls, items)

    return PlainForm(cls=cls, to_plain=to_plain, from_plain=from_plain)


def _form_of_dataclass(cls: Any) -> PlainForm:
    names = tuple(field.name for field in dataclasses.fields(cls))

    def to_plain(instance: Any) -> Any:
        _refuse_other_attributes(instance, names)
        return (names, tuple(getattr(instance, name) for name in names))

    def from_plain(plain: Any) -> Any:
        written, items = plain
        if written != names or len(items) != len(names):
            raise ValueError("the fields are not those of the class")
        # Not cls(*items): __post_init__ has run once, and may not be made to run again.
        instance = object.__new__(cls)
        for name, item in zip(names, items, strict=True):
            object.__setattr__(instance, name, item)
        return instance

    return PlainForm(cls=cls, to_plain=to_plain, from_plain=from_plain)


def _has_state_besides_fields(cls: Any) -> bool:
    """Whether instances may hold what neither fields nor `__dict__` show."""
    names = {field.name for field in dataclasses.fields(cls)}
    slots: set[str] = set()
    for base in cls.__mro__:
        own = base.__dict__.get("__slots__", ())
        slots |= {own} if isinstance(own, str) else set(own)
    new: Any = cls.__new__
    return new is not object.__new__ or not slots <= names | {"__dict__", "__weakref__"}


def _refuse_other_attributes(instance: Any, names: tuple[str, ...]) -> None:
    """Raise for attributes that would be lost; what a `cached_property` keeps may be."""
    for name in getattr(instance, "__dict__", {}):
        if name not in names and not isinstance(
            inspect.getattr_static(type(instance), name, None), functools.cached_property
        ):
            raise ValueError(f"it has an attribute {name!r} that is no field")
