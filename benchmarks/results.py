"""Records of runs: one JSON file each, made to be kept and compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from .tables import Row, Table, digits, grid, table_from_json

DIRECTORY = Path(__file__).resolve().parent / "results"


def save(machine: dict[str, Any], found: dict[str, list[Table]], *, quick: bool) -> Path:
    """Write the record of a run; its name says when, which revision and which Python."""
    DIRECTORY.mkdir(exist_ok=True)
    moment = machine["date"][:19].replace(":", "").replace("T", "-")
    python = "py" + "".join(machine["python"].split(" ")[-1].split(".")[:2])
    path = DIRECTORY / f"{moment}-{machine['revision']}-{python}{'-quick' if quick else ''}.json"
    record = {
        "machine": machine,
        "quick": quick,
        "benchmarks": {name: [t.as_json() for t in tables] for name, tables in found.items()},
    }
    path.write_text(json.dumps(record, ensure_ascii=False, indent=1) + "\n")
    return path


def load(name: str) -> dict[str, Any]:
    """The record in a file, or the newest one whose file's name contains *name*."""
    path = Path(name)
    if not path.is_file():
        found = sorted(DIRECTORY.glob(f"*{name}*.json"))
        if not found:
            raise SystemExit(f"no record {name!r} in {DIRECTORY}")
        path = found[-1]
    record: dict[str, Any] = json.loads(path.read_text())
    record["name"] = path.stem
    return record


def tables_of(record: dict[str, Any]) -> dict[str, list[Table]]:
    """The tables of a record, by benchmark."""
    return {
        name: [table_from_json(table) for table in tables]
        for name, tables in record["benchmarks"].items()
    }


def compare(first: dict[str, Any], second: dict[str, Any]) -> str:
    """Both records' figures side by side, and what they changed by."""
    before, after = _figures(first), _figures(second)
    lines = []
    for place in before:
        if place not in after:
            continue
        old, new = before[place], after[place]
        # Ranges that overlap are no difference.
        apart = new.lowest > old.highest or new.highest < old.lowest
        lines.append(
            [
                " / ".join(place),
                old.text,
                new.text,
                f"{new.value / old.value:.2f}" if old.value else "",
                ("less" if new.value < old.value else "**more**") if apart else "",
            ]
        )
    return grid(["", first["name"], second["name"], "second / first", ""], lines)


class _Figure(NamedTuple):
    value: float
    lowest: float
    highest: float

    @property
    def text(self) -> str:
        if self.lowest == self.highest:
            return digits(self.value)
        return f"{digits(self.value)} ({digits(self.lowest)}–{digits(self.highest)})"


def _figures(record: dict[str, Any]) -> dict[tuple[str, ...], _Figure]:
    found: dict[tuple[str, ...], _Figure] = {}
    for name, tables in tables_of(record).items():
        for table in tables:
            for row in table.rows:
                if isinstance(row, Row):
                    figure = _Figure(row.ratio, row.lowest, row.highest)
                    found[name, table.title, row.name] = figure
                    continue
                for column, cell in zip(table.columns[1:], row[1:], strict=True):
                    if isinstance(cell, int | float):
                        figure = _Figure(cell, cell, cell)
                        found[name, table.title, str(row[0]), column] = figure
    return found
