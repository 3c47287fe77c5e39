"""What a benchmark found, and how it is printed: as a Markdown table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

Cell = str | float | int | None


@dataclass(frozen=True)
class Row:
    """One thing that was timed, against the reference of its table."""

    name: str
    seconds: float
    ratio: float
    lowest: float
    highest: float
    target: float | None = None
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the target was met; None without one."""
        return None if self.target is None else self.ratio <= self.target


@dataclass(frozen=True)
class Table:
    """A table of a benchmark.

    With *columns* its *rows* are lists of cells: figures that are no ratios.  Without, they are
    `Row`, and *reference* says what the ratios are to.
    """

    #: Unique within its benchmark, and the same in each run: records are compared by it.
    title: str
    rows: Sequence[Row | Sequence[Cell]]
    reference: str = ""
    columns: Sequence[str] = ()
    #: Below the table: what there is to say about it.
    note: str = ""
    #: How the plots draw it: "bars" (of ratios), "lines" (the first column is x) or "" (not).
    plot: str = field(default="bars")

    def as_json(self) -> dict[str, Any]:
        """As it stands in a record."""
        return {
            "title": self.title,
            "reference": self.reference,
            "columns": list(self.columns),
            "note": self.note,
            "plot": self.plot,
            "rows": [
                {k: v for k, v in vars(row).items() if v not in (None, "")}
                if isinstance(row, Row)
                else list(row)
                for row in self.rows
            ],
        }


def table_from_json(found: dict[str, Any]) -> Table:
    """The reverse of `Table.as_json`."""
    rows = [Row(**row) if isinstance(row, dict) else row for row in found["rows"]]
    return Table(**{**found, "rows": rows})


def render(table: Table) -> str:
    """The table as Markdown."""
    if table.columns:
        lines = [[_cell(cell) for cell in row] for row in table.rows]  # type: ignore[union-attr]
        text = grid(list(table.columns), lines)
    else:
        lines = [_line(row) for row in table.rows if isinstance(row, Row)]
        text = grid(["", "time", f"× {table.reference}", "min–max", "at most", ""], lines)
    note = f"\n{table.note}\n" if table.note else ""
    return f"### {table.title}\n\n{text}\n{note}"


def grid(head: list[str], lines: list[list[str]]) -> str:
    """A Markdown table with aligned columns; those that are empty all the way are left out."""
    kept = [i for i in range(len(head)) if head[i] or any(line[i] for line in lines)]
    every = [[line[i] for i in kept] for line in [head, *lines]]
    widths = [max(len(line[i]) for line in every) for i in range(len(kept))]
    padded = [
        [cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in every
    ]
    text = [f"| {' | '.join(cells)} |" for cells in padded]
    text.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(text)


def duration(seconds: float) -> str:
    """Seconds in the unit that fits."""
    for factor, unit in ((1e-6, "ns"), (1e-3, "µs"), (1, "ms")):
        if seconds < factor:
            return f"{digits(seconds / factor * 1000)} {unit}"
    return f"{digits(seconds)} s"


def _line(row: Row) -> list[str]:
    met = {None: "", True: "met", False: "**missed**"}[row.met]
    return [
        row.name,
        duration(row.seconds),
        digits(row.ratio),
        f"{digits(row.lowest)}–{digits(row.highest)}",
        "" if row.target is None else f"{row.target:g}",
        "; ".join(part for part in (met, row.note) if part),
    ]


def _cell(cell: Cell) -> str:
    if isinstance(cell, float):
        return digits(cell)
    if isinstance(cell, int):
        return f"{cell:,}"
    return cell or ""


def digits(value: float) -> str:
    """Three digits that count."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
