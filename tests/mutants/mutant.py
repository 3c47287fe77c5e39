"""One mutant: a protection, how it is taken out, and the tests that convict it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """*old* occurs exactly once in *file* (below ``coherent_cache/``) and becomes *new*."""

    name: str  # what is taken out, in a few words with hyphens
    file: str
    old: str
    new: str
    tests: tuple[str, ...]  # pytest arguments below tests/; every one of them must fail
