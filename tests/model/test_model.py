"""SPIN visits every state of the model within the bounds, and finds what is wrong with mutants."""

from __future__ import annotations

import shutil

import pytest

from ..databases import REQUIRED
from .spin import MUTANTS, RUNS, SCOPES, WIDE, ModelMutant, verify

pytestmark = [pytest.mark.long, pytest.mark.thorough]


@pytest.fixture(scope="module", autouse=True)
def _tools() -> None:
    missing = [tool for tool in ("spin", "gcc") if shutil.which(tool) is None]
    if missing and REQUIRED:
        pytest.fail(f"{' and '.join(missing)} must be there (Debian: apt-get install spin gcc)")
    if missing:
        pytest.skip(f"{' and '.join(missing)} not found")


@pytest.mark.parametrize(("ledger", "scope"), RUNS)
def test_the_claims_hold_in_every_state(ledger: str, scope: str) -> None:
    found = verify(ledger, scope)
    print(f"{ledger} {scope}: {found.states:,} states, depth {found.depth}, {found.seconds:.1f} s")
    assert found.violated is None
    # A guard that is never true would leave little to visit, and all claims would hold.
    assert found.states > 100_000


@pytest.mark.parametrize(
    ("mutant", "ledger"),
    [
        pytest.param(mutant, database, id=f"{mutant.macro}-{database}")
        for mutant in MUTANTS
        for database in mutant.databases
    ],
)
def test_every_mutant_is_convicted(mutant: ModelMutant, ledger: str) -> None:
    assert verify(ledger, mutant.scope, mutant=mutant.macro).violated == mutant.claim


def test_a_counterexample_is_told_as_a_story() -> None:
    found = verify("postgresql", "processes", mutant="NO_LOOK_AFTER_OWN_COMMIT", story=True)
    assert "COMMIT of version 1 of row 0" in found.story
    last = [line for line in found.story.splitlines() if line.startswith("thread")][-1]
    assert last == "thread 0: is given (0, 0)"  # the writer himself, after his own commit


def test_the_wide_bounds_are_of_the_same_scopes() -> None:
    assert WIDE.keys() == SCOPES.keys()
