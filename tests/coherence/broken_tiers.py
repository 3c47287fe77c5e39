"""Tiers with a protection taken out, for the checker to convict; see `broken`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from coherent_cache.entry import Entry
from coherent_cache.ledger import Execute, Ledger, generations
from coherent_cache.loading import Loader
from coherent_cache.shared import SharedValues
from coherent_cache.transaction import Transaction


def _put_without_another_look() -> None:
    """What was computed is put under the generation that its key has by then."""
    SharedValues._still_holds = lambda *_: True  # type: ignore[method-assign,assignment]

    def any_generations(
        self: SharedValues, entry: Entry, transactions: Iterable[Transaction], _: str | None
    ) -> dict[str, str]:
        return {} if entry.owners else self._generations(list(entry.keys), transactions)

    SharedValues._generations_to_put = any_generations  # type: ignore[method-assign]


def _ignore_the_generation() -> None:
    """A value stands under its key, whatever was invalidated since."""

    # No import of `coherent_cache.tier` where there is no dogpile.cache.
    from coherent_cache.tier import Tier

    find, put = Tier.find, Tier.put

    def find_any(self: Any, key: str, variant: str, generation: str) -> Any:
        found = find(self, key, variant, "")
        return found and found._replace(dependencies={})

    def put_any(
        self: Any, key: str, variant: str, generation: str, others: Mapping[str, str], value: Any
    ) -> None:
        put(self, key, variant, "", {}, value)

    Tier.find, Tier.put = find_any, put_any  # type: ignore[method-assign]


def _ignore_what_it_depends_on() -> None:
    """Only the value's own generation counts."""
    from coherent_cache.tier import Tier

    put = Tier.put

    def alone(
        self: Any, key: str, variant: str, generation: str, others: Mapping[str, str], value: Any
    ) -> None:
        put(self, key, variant, generation, {}, value)

    Tier.put = alone  # type: ignore[method-assign]


def _put_what_is_private() -> None:
    """What was computed in a transaction that has written is put, too."""
    compute = Loader._compute

    def dirty(self: Loader, read: Any, retriever: Callable[[], Any]) -> Entry:
        entry = compute(self, read, retriever)
        if entry.owners and self._shared is not None:
            access = self._core.access

            def ask(execute: Execute) -> dict[str, str]:
                return generations(access._ledger, execute, sorted(entry.keys))

            found = access._current().reader.ask(ask)
            if found.keys() == entry.keys:
                self._shared._put(entry, found)
        return entry

    Loader._compute = dirty  # type: ignore[method-assign]


def _prune_without_a_mark() -> None:
    """Rows are pruned, and a generation may come back."""

    def no_mark(self: Ledger, execute: Execute, position: int = 0) -> None:
        mark_first(self, execute)

    mark = Ledger.mark

    def mark_first(self: Ledger, execute: Execute) -> None:
        if not execute(f"SELECT 1 FROM {self.log_name} WHERE lane = -1 LIMIT 1", ()).rows:
            mark(self, execute)

    Ledger.mark = no_mark  # type: ignore[method-assign]


def open_whatever_is_there() -> None:
    """What stands at an address is taken for what was put there: neither its seal is verified nor
    what it was sealed for.  (Right, as long as nobody else writes.)"""
    from coherent_cache.errors import BadPayload
    from coherent_cache.sealing.envelope import Envelope, _texts
    from coherent_cache.sealing.seals import Seals

    def dependencies(self: Envelope, fields: bytes, expected: Any) -> dict[str, str]:
        try:
            texts = [text.decode() for text in _texts(fields)[6:]]
            return dict(zip(texts[::2], texts[1::2], strict=True))
        except ValueError as error:  # the flipped byte is one of these
            raise BadPayload("fields") from error

    Seals.verify = lambda *_: True  # type: ignore[method-assign,assignment]
    Envelope._check_fields = dependencies  # type: ignore[method-assign]


TIERS = {
    "put-without-another-look": _put_without_another_look,
    "ignore-the-generation": _ignore_the_generation,
    "ignore-what-it-depends-on": _ignore_what_it_depends_on,
    "put-what-is-private": _put_what_is_private,
    "prune-without-a-mark": _prune_without_a_mark,
}
