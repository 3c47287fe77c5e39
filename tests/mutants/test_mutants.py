"""The mutants follow the package and the page in docs/, and those of the protocol are convicted."""

from __future__ import annotations

import ast
import re
from typing import Any

import pytest

from . import MUTANTS
from .mutant import PACKAGE, Mutant
from .run import ROOT, convict
from .table import PAGE, written


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_mutant_applies(mutant: Mutant) -> None:
    """Exactly once, to something that is Python afterwards (or C) and is not the same."""
    assert mutant.occurrences() == 1
    source = (PACKAGE / mutant.file).read_text()
    if mutant.file.endswith(".c"):
        assert mutant.old != mutant.new
        return
    mutated = ast.dump(ast.parse(source.replace(mutant.old, mutant.new)))
    assert mutated != ast.dump(ast.parse(source))


def test_names() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
    assert sum(mutant.core for mutant in MUTANTS) >= 20


def test_tests_of_mutants_exist() -> None:
    for mutant in MUTANTS:
        for test in mutant.tests:
            file, _, name = test.partition("::")
            function = re.escape(name.partition("[")[0]) or r"test_\w+"  # a whole file
            assert re.search(rf"def {function}\(", (ROOT / "tests" / file).read_text()), test


def test_page_is_current() -> None:
    assert PAGE.read_text() == written(MUTANTS), "run: python -m tests.mutants --table"


@pytest.mark.long
@pytest.mark.thorough
@pytest.mark.timeout(900)
def test_protections_of_the_protocol_are_missed(service: Any) -> None:
    """Two at a time; the quickest test of each."""
    for kind in ("postgresql", "mariadb"):
        service(kind)  # or skip: where a server is absent its tests would notice nothing
    core = [mutant for mutant in MUTANTS if mutant.core]
    assert [v for v in convict(core, jobs=2, quick=True) if v.blind] == []
