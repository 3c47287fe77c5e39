"""Bytes that an entry takes beside its key and its value, with a million of them.

Each figure is taken in a process of its own: what its memory grew by while a million small values
were loaded, by key, less the text of the keys and the values themselves.  "Resident" is what the
system says of the process, "traced" what Python's allocator says.  The limit is a dict.  The last
column is what each further thread takes that reads them all in requests of its own, an entry.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

from .memory_child import SUBJECTS
from .registry import Options
from .tables import Cell, Table


def run(options: Options) -> Iterator[Table]:
    """Yield the table."""
    entries = 30_000 if options.quick else 1_000_000
    # Tracing makes a million take minutes.
    counts = {"resident": entries, "traced": min(entries, 100_000)}
    rows: list[list[Cell]] = []
    for subject in SUBJECTS:
        line: list[Cell] = [subject]
        for how, count in counts.items():
            options.progress.step(f"memory: {subject}, {how}")
            line.extend(_ask(subject, count, how))
        # Threads are measured by the allocator alone: a page more or less is noise.
        rows.append([line[0], line[1], line[3], line[4]])
    yield Table(
        f"Bytes an entry beside key and value, {entries:,} entries",
        rows,
        columns=("", "resident", f"traced, of {counts['traced']:,}", "for each further thread"),
        note="At most 250 are wanted, and nothing for a thread.",
        plot="columns",
    )


def _ask(subject: str, entries: int, how: str) -> tuple[Cell, Cell]:
    command = [sys.executable, "-m", "benchmarks.memory_child", subject, str(entries), how]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    each, thread = json.loads(done.stdout)
    return each, thread
