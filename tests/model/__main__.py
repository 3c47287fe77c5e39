"""Prints what SPIN says of the model; see the package."""

from __future__ import annotations

import argparse
import sys

from .spin import MUTANTS, RUNS, verify


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.model")
    parser.add_argument("--wide", action="store_true", help="larger bounds: minutes")
    parser.add_argument("--story", metavar="MUTANT", help="how a mutant goes wrong")
    options = parser.parse_args()
    if options.story:
        (mutant,) = (m for m in MUTANTS if m.macro == options.story)
        verdict = verify(mutant.databases[0], mutant.scope, mutant=mutant.macro, story=True)
        print(verdict.story)
        print(f"{verdict.violated} is violated, on {mutant.databases[0]}")
        return 0
    wrong = 0
    print(f"{'database':11}{'scope':11}{'states':>11}{'depth':>7}{'seconds':>9}  verdict")
    for database, scope in RUNS:
        found = verify(database, scope, wide=options.wide)
        wrong += found.violated is not None
        print(
            f"{database:11}{scope:11}{found.states:>11,}{found.depth:>7}{found.seconds:>9.1f}"
            f"  {found.violated or 'holds'}",
            flush=True,
        )
    print(f"\n{'mutant':36}{'database':11}{'scope':11}  violates")
    for mutant in MUTANTS:
        for database in mutant.databases:
            found = verify(database, mutant.scope, mutant=mutant.macro)
            wrong += found.violated != mutant.claim
            print(
                f"{mutant.macro:36}{database:11}{mutant.scope:11}  {found.violated or 'NOTHING'}",
                flush=True,
            )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
