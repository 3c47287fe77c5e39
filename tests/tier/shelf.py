"""A tier that two workers of one test share: a dictionary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class Kept(NamedTuple):
    value: Any
    dependencies: Mapping[str, str]


class Shelf:
    """Keeps everything, for ever, and counts."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str, str], Kept] = {}
        self.found = 0

    def find(self, key: str, variant: str, generation: str) -> Kept | None:
        found = self.kept.get((key, variant, generation))
        self.found += found is not None
        return found

    def put(
        self, key: str, variant: str, generation: str, dependencies: Mapping[str, str], value: Any
    ) -> None:
        self.kept[key, variant, generation] = Kept(value, dict(dependencies))
