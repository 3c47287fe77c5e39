"""``python -m tests.mutants``; see the package."""

from __future__ import annotations

import argparse
import sys
import time

from . import MUTANTS
from .run import convict
from .table import PAGE, written


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=main.__doc__)
    parser.add_argument("names", nargs="*", help="only these mutants")
    parser.add_argument("--core", action="store_true", help="protections of the protocol, quickly")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="so many at a time")
    parser.add_argument("--table", action="store_true", help="write docs/mutants.md and run none")
    given = parser.parse_args(arguments)
    if given.table:
        PAGE.write_text(written(MUTANTS))
        return 0
    unknown = set(given.names) - {mutant.name for mutant in MUTANTS}
    if unknown:
        parser.error(f"no such mutant: {', '.join(sorted(unknown))}")
    chosen = [
        mutant
        for mutant in MUTANTS
        if (mutant.core or not given.core) and (mutant.name in given.names or not given.names)
    ]
    survivors = 0
    start = time.monotonic()
    for number, verdict in enumerate(convict(chosen, jobs=given.jobs, quick=given.core), 1):
        survivors += bool(verdict.blind)
        said = "SURVIVED: " + ", ".join(verdict.blind) if verdict.blind else "convicted"
        print(
            f"[{number}/{len(chosen)}] {verdict.mutant.name:50} {verdict.seconds:5.1f} s  {said}",
            flush=True,
        )
    print(
        f"{len(chosen) - survivors} convicted, {survivors} survived, "
        f"in {time.monotonic() - start:.0f} s"
    )
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
