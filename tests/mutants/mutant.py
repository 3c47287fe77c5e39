"""One mutant: a protection, how it is taken out, and the tests that convict it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2] / "coherent_cache"


@dataclass(frozen=True)
class Mutant:
    """*old* occurs exactly once in *file* (below ``coherent_cache/``) and becomes *new*."""

    name: str  # what is taken out, in a few words with hyphens
    file: str
    old: str
    new: str
    tests: tuple[str, ...]  # pytest arguments below tests/; every one of them must fail
    #: A protection of the protocol itself: run in each test run, by its first test only, which is
    #: therefore the quickest.
    core: bool = False

    def occurrences(self) -> int:
        """How often the text to replace is found; 1 as long as the mutant follows the package."""
        return (PACKAGE / self.file).read_text().count(self.old)
