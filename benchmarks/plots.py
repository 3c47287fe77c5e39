"""``python -m benchmarks.plots [RECORD]``: draws a record's tables into ``docs/plots``.

One SVG a table: bars of ratios with the targets marked, lines of what was watched over time, and
for a load the requests a second with the share of wrong answers.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .results import load, tables_of
from .tables import Row, Table, digits

DIRECTORY = Path(__file__).resolve().parent.parent / "docs" / "plots"

_OURS, _OTHERS, _WRONG = "#1f6f8b", "#b8c4c9", "#c0392b"
_OF_OURS = re.compile(
    "singleton|keyed|awaitable|first read|check|a request|coherent_cache|k =|hit in|miss with"
)


def main() -> None:
    """Draw what the command line names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plots")
    parser.add_argument("record", nargs="*", default=[""], help="files, or parts of their names")
    # Text stays text, and nothing in the file changes that the figures did not.
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "benchmarks", "font.size": 9})
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    for name in parser.parse_args().record:
        for path in draw(load(name)):
            print(path.relative_to(DIRECTORY.parent.parent))


def draw(record: dict[str, Any]) -> Iterator[Path]:
    """Draw each table of *record* that has a plot; the files."""
    for benchmark, tables in tables_of(record).items():
        for table in tables:
            draws = _KINDS.get(table.plot)
            if draws is None:
                continue
            figure = Figure(figsize=(7, 0.9 + 0.32 * max(len(table.rows), 5)), layout="constrained")
            draws(table, figure.subplots())
            figure.axes[0].set_title(table.title, loc="left")
            path = DIRECTORY / f"{benchmark}-{_slug(table.title)}.svg"
            figure.savefig(path, metadata={"Date": None})
            yield path


def _slug(title: str) -> str:
    return re.sub("[^a-z0-9]+", "-", title.lower()).strip("-")


def _bars(table: Table, axes: Axes) -> None:
    rows = [row for row in table.rows if isinstance(row, Row)][::-1]
    colours = [_OURS if _OF_OURS.match(row.name) else _OTHERS for row in rows]
    axes.barh([row.name for row in rows], [row.ratio for row in rows], color=colours)
    for at, row in enumerate(rows):
        axes.plot([row.lowest, row.highest], [at, at], color="black", linewidth=0.8)
        axes.annotate(
            digits(row.ratio), (row.highest, at), (4, 0), textcoords="offset points", va="center"
        )
        if row.target is not None:
            axes.plot([row.target] * 2, [at - 0.4, at + 0.4], color=_WRONG)
    axes.set_xscale("log")
    axes.set_xlabel(f"× {table.reference}; the red line is the target")
    axes.margins(x=0.15)
    axes.spines[["top", "right"]].set_visible(False)


def _lines(table: Table, axes: Axes) -> None:
    cells = _cells(table)
    x = [line[0] for line in cells]
    for column in range(1, len(table.columns)):
        y = [line[column] for line in cells]
        top = max(max(y), 1e-9)
        axes.plot(x, [value / top for value in y], marker="o", markersize=3)
        label = f"{table.columns[column]} (1 = {digits(float(top))})"
        axes.lines[-1].set_label(label)
    axes.set_xlabel(table.columns[0])
    axes.set_ylim(0, 1.1)
    axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def _columns(table: Table, axes: Axes) -> None:
    cells = _cells(table)[::-1]
    shown = range(1, len(table.columns))
    height = 0.8 / len(shown)
    for which, column in enumerate(shown):
        at = [line + which * height for line in range(len(cells))]
        shades = [_OURS if str(line[0]).startswith("coherent_cache") else _OTHERS for line in cells]
        axes.barh(
            at,
            [line[column] for line in cells],
            height * 0.9,
            color=shades,
            alpha=1 - 0.3 * which,
            label=table.columns[column],
        )
        for place, line in zip(at, cells, strict=True):
            text = f"{digits(float(line[column]))}  {table.columns[column]}"
            axes.annotate(text, (line[column], place), (4, 0), textcoords="offset points", size=7)
    axes.set_yticks([line + 0.3 for line in range(len(cells))], [line[0] for line in cells])
    axes.margins(x=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def _cells(table: Table) -> list[list[Any]]:
    return [list(row) for row in table.rows if not isinstance(row, Row)]


def _load(table: Table, axes: Axes) -> None:
    cells = _cells(table)[::-1]
    rate, wrong, checked = (
        table.columns.index(name) for name in ("requests/s", "wrong answers", "answers checked")
    )
    colours = [_OURS if str(line[0]).startswith("coherent_cache") else _OTHERS for line in cells]
    axes.barh([line[0] for line in cells], [line[rate] for line in cells], color=colours)
    for at, line in enumerate(cells):
        axes.annotate(
            f"{line[rate]:,}; {line[wrong]:,} wrong of {line[checked]:,}",
            (line[rate], at),
            (4, 0),
            textcoords="offset points",
            va="center",
            color=_WRONG if line[wrong] else "black",
        )
    axes.set_xlabel("requests a second")
    axes.margins(x=0.65)
    axes.spines[["top", "right"]].set_visible(False)


_KINDS: dict[str, Callable[[Table, Axes], None]] = {
    "bars": _bars,
    "lines": _lines,
    "columns": _columns,
    "load": _load,
}


if __name__ == "__main__":
    main()
