"""The harness of the benchmarks: what it prints, keeps and compares.  Not the figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import registry, results
from benchmarks.measure import Case, measure
from benchmarks.registry import Options
from benchmarks.tables import Row, Table, render


def test_what_is_timed_is_compared_round_by_round():
    """The machine gets ten times slower with each round: the ratio does not."""
    slow = iter([1, 1, 10, 10, 100, 100] * 10)

    def timed(cost: float) -> Any:
        # `measure` asks twice to calibrate; 1 s is as long as it wants, so n stays 1.
        answers = iter([1.0, 1.0])
        return lambda n: next(answers, None) or cost * next(slow)

    cases = [Case("reference", timed(1)), Case("twice", timed(2), target=1.5)]
    reference, twice = measure(cases, reference="reference", rounds=3, seconds=1)
    assert (reference.ratio, twice.ratio, twice.lowest, twice.highest) == (1, 2, 2, 2)
    assert twice.seconds == 20
    assert twice.met is False


def test_a_moment_in_which_the_machine_was_elsewhere_is_not_calibrated_by():
    asked: list[int] = []

    def timed(number: int) -> float:
        asked.append(number)
        return 1.0 if len(asked) == 1 else number * 1e-6

    measure([Case("quick", timed)], reference="quick", rounds=1, seconds=0.01)
    assert asked[-1] >= 4_000


def test_a_table_says_what_was_missed():
    row = Row("check", 1e-5, 0.3, 0.2, 0.4, target=0.2)
    assert "| check | 10.0 µs | 0.30" in render(Table("A table", [row], reference="SELECT 1"))
    assert "**missed**" in render(Table("A table", [row], reference="SELECT 1"))


def test_a_record_is_read_as_it_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(results, "DIRECTORY", tmp_path)
    before = _kept(ratio=2.0)
    after = _kept(ratio=4.0)
    assert results.tables_of(results.load(str(before)))["hit"][0].rows[1] == ["10", 5]
    compared = results.compare(results.load(str(before)), results.load(str(after)))
    assert "hit / A table / keyed" in compared
    assert "2.00" in compared.splitlines()[2]
    assert "**more**" in compared.splitlines()[2]


def _kept(ratio: float) -> Path:
    rows = [Row("keyed", 1e-7, ratio, ratio, ratio), ["10", 5]]
    machine = {
        "date": f"2026-01-0{ratio:.0f}T00:00:00",
        "revision": "abc",
        "python": "CPython 3.11",
    }
    return results.save(machine, {"hit": [Table("A table", rows, columns=("", "n"))]}, quick=False)


@pytest.mark.parametrize("name", registry.NAMES)
def test_a_benchmark_says_what_it_does_and_what_the_limit_is(name: str):
    says = registry.find(name).says
    assert "limit" in says or "wanted" in says or name == "steps", says


def test_a_benchmark_runs(capsys: pytest.CaptureFixture[str]):
    (table,) = registry.find("hit").run(Options(quick=True))
    names = [row.name for row in table.rows if isinstance(row, Row)]
    assert {"lru_cache", "singleton", "keyed"} <= set(names)
    json.dumps(table.as_json())
