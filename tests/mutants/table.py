"""The page docs/mutants.md: which test convicts which mutant."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .mutant import Mutant

PAGE = Path(__file__).resolve().parents[2] / "docs" / "mutants.md"
BEGIN = "<!-- written by python -m tests.mutants --table -->"


def written(mutants: Sequence[Mutant]) -> str:
    """The page with the tables of *mutants*; what stands above them is kept."""
    head, _, _ = PAGE.read_text().partition(BEGIN)
    core = [mutant for mutant in mutants if mutant.core]
    others = [mutant for mutant in mutants if not mutant.core]
    return "\n".join(
        [
            f"{head}{BEGIN}",
            "",
            f"## Protections of the protocol ({len(core)})",
            "",
            *_table(core),
            "",
            f"## All others ({len(others)})",
            "",
            *_table(others),
            "",
        ]
    )


def _table(mutants: Sequence[Mutant]) -> list[str]:
    rows = [
        f"| {mutant.name.replace('-', ' ')} | `{mutant.file}` | "
        f"{', '.join(f'`{_name(test)}`' for test in mutant.tests)} |"
        for mutant in mutants
    ]
    return ["| what is taken out | of | tests that fail then |", "|---|---|---|", *rows]


def _name(test: str) -> str:
    return test.rpartition("::")[2]
