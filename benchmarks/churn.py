"""Distinct keys come and go for a while: does anything grow?

One process, two managers that stand for two workers: one keeps loading values of new keys, the
other keeps invalidating them, a key a transaction and a hundred now and then.  Nothing is pruned
by hand.  ``--minutes 60`` is the hour; at each point of the series stand the process's resident
memory, the rows of the ledger and the time of a check.  What is wanted: all three level off.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

from .databases import TITLES, available, fresh_database
from .registry import Options
from .tables import Cell, Table


def run(options: Options) -> Iterator[Table]:
    """Yield a series for each database."""
    minutes = options.minutes or (0.2 if options.quick else 2)
    for kind in available(options.databases, options.progress):
        rows: list[list[Cell]] = []
        with fresh_database(kind) as database:
            url = database.url.render_as_string(hide_password=False)
            command = [sys.executable, "-m", "benchmarks.churn_child", kind, url, str(minutes * 60)]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
                assert child.stdout is not None
                for line in child.stdout:
                    rows.append(json.loads(line))
                    options.progress.step(f"churn: {TITLES[kind]}: {rows[-1]}")
            if child.returncode:
                raise RuntimeError(f"the process that is watched ended with {child.returncode}")
        yield Table(
            f"{TITLES[kind]}, {minutes:g} minutes",
            rows,
            columns=("seconds", "keys so far", "resident MiB", "rows", "entries", "check, µs"),
            plot="lines",
        )
