"""Protections taken out on purpose, and the tests that must notice.

``python -m tests.mutants [name ...]`` applies each mutant to a copy of the package and runs its
tests against it: every one has to fail there.  ``--core`` runs only the protections of the
protocol, each by its quickest test; ``--table`` writes docs/mutants.md.
"""

from . import (
    cases_01_10,
    cases_11_20,
    contexts,
    endings,
    guarantees,
    interleavings,
    one_host,
    reading,
    schedules,
    sealing,
    snapshot,
    tier,
    web,
)
from .mutant import Mutant

MUTANTS: list[Mutant] = [
    *cases_01_10.MUTANTS,
    *cases_11_20.MUTANTS,
    *contexts.MUTANTS,
    *endings.MUTANTS,
    *guarantees.MUTANTS,
    *interleavings.MUTANTS,
    *one_host.MUTANTS,
    *reading.MUTANTS,
    *schedules.MUTANTS,
    *sealing.MUTANTS,
    *snapshot.MUTANTS,
    *tier.MUTANTS,
    *web.MUTANTS,
]
