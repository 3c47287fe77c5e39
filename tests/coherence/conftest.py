"""Fixtures: places for tiers, one of each kind for all tests of a process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from .tiers import TierPlace, tier_place


@pytest.fixture(scope="session")
def tiers() -> Iterator[Callable[[str], TierPlace]]:
    """Returns the place of a kind of tier, made when it is first asked for."""
    pytest.importorskip("dogpile.cache")
    made: dict[str, TierPlace] = {}
    with ExitStack() as stack:

        def get(kind: str) -> TierPlace:
            if kind not in made:
                made[kind] = stack.enter_context(tier_place(kind))
            return made[kind]

        yield get
