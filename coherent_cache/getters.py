"""The getters of cached attributes: what runs at ``obj.attr``.

A value that the view's memo has costs one expression; one that the view or the store has, a few
look-ups (`known`); everything else is the manager's to find out.  A getter is a plain function
given to `property`, which calls it faster than it would a ``__get__`` of our own.

Where the compiled form is in use (`hit`) it comes to the memo before the getter does.
"""

from __future__ import annotations

import keyword
import unicodedata
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from . import resolve
from .entry import Slot
from .eviction import MAX_USES
from .hit import answer_from_memo
from .memo import current_memo, register
from .resolve import manager_of

if TYPE_CHECKING:
    from .descriptors import CachedProperty, CachedSingletonProperty
    from .view import View

Getter = Callable[[Any], Any]

#: What `known` returns if it knows nothing.
UNKNOWN: Any = object()

_NO_ITEM = (object(), None)

_memo_of_context = current_memo.get


class FirstRead(dict[Any, Any]):
    """Answers in the memo for a singleton attribute that the view has not read yet.

    A view's memo has a plain dictionary instead once it has read one.  (That one lacks an instance
    would cost an exception at the first read in each view.)
    """

    __slots__ = ("_attribute", "_learned", "index")

    def __init__(self, attribute: CachedSingletonProperty[Any]) -> None:
        self._attribute = weakref.ref(attribute)  # a memo does not keep a class alive
        # The class whose instance was read last, and its slot: mostly there is one only.
        # One tuple, so that no thread sees the class of one and the slot of another.
        self._learned: tuple[type | None, Slot] = (None, Slot(""))
        self.index = register(attribute, self)

    def __missing__(self, instance: Any) -> Any:
        kind, slot = self._learned
        if type(instance) is not kind:
            slot = self._learn(instance)
        value = known(self.index, instance, slot)
        if value is UNKNOWN:
            raise LookupError
        return value

    def _learn(self, instance: Any) -> Slot:
        attribute = self._attribute()
        if attribute is None:
            raise LookupError
        slot = attribute.slot_of(instance)
        self._learned = (type(instance), slot)
        return slot


def singleton_getter(
    attribute: CachedSingletonProperty[Any], read: Callable[[int, Any], Any]
) -> Getter:
    """The getter of an attribute whose value depends on nothing of the instance but its class."""
    index = FirstRead(attribute).index
    answer_from_memo(attribute, index)
    memo = _memo_of_context

    def getter(instance: Any) -> Any:
        try:
            return memo()[index][instance]
        except Exception:
            pass  # left first, so that no error of a retriever says "during handling of"
        return read(index, instance)

    return getter


_KEYED = """
def getter(instance):
    try:
        part, value = memo()[index].get(instance, no_item)
        now = instance.{name}
    except Exception:
        pass
    else:
        # Only the very same object is surely the same part: 1 == True.
        if now is part:
            return value
        return first(instance, now)
    return read(instance)


def first(instance, now):
    # `known` for a part that was met before, on an instance that is not the first of this view:
    # the same conditions in the same order, and `View.keep`.  All else `read_part` does.
    # (Of two functions the getter is the faster: its frame is small.)
    # Each step is one operation on a dictionary or an object.  The memo's dictionary and the count
    # of invalidations are taken first, see `known`; what the slot has is in the store if it is in a
    # queue after the view was found to be checked, see `Store.place`.
    try:
        memos = memo()
        items = memos[index]
        learned = last[0]
        if items and type(instance) is learned[0] and type(now) is str:
            view = memos[0]
            changes = view.changes
            core = view.core
            slot = learned[1][now]
            if view.calm is core.unrest:
                if core.is_only:
                    found = slot.entry
                else:
                    owner = getattr(instance, "env", None)
                    if (
                        resolve._resolver is not None
                        or (instance if owner is None else owner).cache_manager.core is not core
                        or (found := core.store.entries[slot.key]).variant is not slot.variant
                    ):
                        return read_part(index, instance, now)
                if found.queue:
                    if found.uses < max_uses:
                        found.uses += 1
                    value = view.values.setdefault(slot, found).value
                    if view.changes != changes:
                        value = view.check_kept(slot, found, changes).value
                    items[instance] = now, value
                    return value
    except Exception:
        pass
    return read_part(index, instance, now)
"""


def keyed_getter(
    attribute: CachedProperty[Any],
    name: str,
    read_part: Callable[[int, Any, Any], Any],
    read: Getter,
) -> Getter:
    """The getter of an attribute whose value depends on the instance's attribute *name* too."""
    # The compiler would read another name where it is not in that normal form.
    is_plain = unicodedata.normalize("NFKC", name) == name
    if not name.isidentifier() or keyword.iskeyword(name) or not is_plain:
        return lambda instance: read(instance)  # getattr() will say what is wrong with it
    # Compiled for the name, as dataclasses are: ``getattr`` would take half of the time.
    index = register(attribute)
    scope = {
        "memo": _memo_of_context,
        "index": index,
        "no_item": _NO_ITEM,
        "last": attribute.last,
        "resolve": resolve,
        "max_uses": MAX_USES,
        "read_part": read_part,
        "read": read,
    }
    exec(_KEYED.format(name=name), scope)
    answer_from_memo(attribute, index, name, scope["first"])
    getter: Getter = scope["getter"]  # type: ignore[assignment]
    return getter


def known(index: int, instance: Any, slot: Slot, part: Any = UNKNOWN) -> Any:
    """Return the value of *slot* if the view has it, or if nothing stands between the view and the
    store; else `UNKNOWN`.  It is what `Loader.get` would come to, by a shorter way.

    What is returned is memorised for the attribute at *index*, together with *part* if the
    value depends on it.
    """
    memo = _memo_of_context()
    view: View | None = memo[0]
    if view is None:
        return UNKNOWN  # no view is open, or a retriever runs
    # What others do in a call is written out here: a call takes as long as what it does.
    core = view.core
    if not core.is_only:
        if resolve._resolver is None:
            # `manager_of`, where the instance or its environment names the manager.
            owner = getattr(instance, "env", None)
            manager = getattr(instance if owner is None else owner, "cache_manager", None)
        else:
            manager = None
        if manager is None:
            manager = manager_of(instance, slot.key)
        if manager.core is not core:
            return UNKNOWN
    # The dictionary is taken before the value is found: whoever invalidates afterwards has put
    # another in its place, and what is put into this one nobody will find.
    # (Test: test_invalidated_while_it_is_taken_over.)
    items = memo[index] if index < len(memo) else None
    changes = view.changes
    variant: Any = slot.variant
    if (
        view.calm is core.unrest
        and (found := core.store.entries.get(slot.key)) is not None  # `Store.get`
        and found.variant is variant
    ):
        if found.uses < MAX_USES:
            found.uses += 1
        if slot not in view.values:
            view.counted += 1
        if core.is_only and type(part) is str and variant.by_identity:
            core.store.place(slot, found)
        kept = view.keep(slot, found, changes)
    else:
        found = view.values.get(slot)
        if found is None:
            return UNKNOWN
        kept = found
    item = kept.value if part is UNKNOWN else (part, kept.value)
    # An instance that says itself what it is equal to might be taken for another one.
    if variant.by_identity:
        if type(items) is dict and items:
            items[instance] = item
        else:
            view.memorise(index, instance, item, changes)
    return kept.value
