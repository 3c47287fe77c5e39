"""The points are where they say, each is used, and a schedule that cannot be played says so."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import pytest

from coherent_cache.points import POINTS, point
from coherent_cache.store import Store

from . import schedule as schedule_module
from .gates import gates
from .schedule import Schedule, parse

TESTS = Path(__file__).resolve().parents[1]
OURS = Path(__file__).name


def test_a_point_costs_nothing() -> None:
    def function() -> None:
        pass

    before = dict(POINTS)
    try:
        assert point(before="test: here", after="test: there")(function) is function
        assert POINTS["test: here"][0].qualname == function.__qualname__
    finally:
        POINTS.clear()
        POINTS.update(before)


def test_gates_are_gone_after_a_schedule() -> None:
    publish = Store.publish
    with gates(["load: published, not kept"], lambda name: None):
        assert Store.publish is not publish
    assert Store.publish is publish


def _sources() -> str:
    files = [f for f in TESTS.rglob("*.py") if f.name != OURS and f.parent.name != "mutants"]
    return "\n".join(file.read_text() for file in files)


def test_every_point_is_used() -> None:
    source = _sources()
    assert [name for name in POINTS if name not in source] == []


def test_every_point_that_a_script_names_exists() -> None:
    named = set(re.findall(r"^ *\w+ +reaches +([^{}\n]*?) *(?:--.*)?$", _sources(), re.M))
    named = {name for name in named if ":" in name}
    assert named
    assert named - POINTS.keys() == set()


def test_the_table_of_hard_cases() -> None:
    page = (TESTS.parent / "docs" / "guarantees.md").read_text()
    rows = re.findall(r"^\| (\d+) [^|]* \| ([^|]*) \| ([^|]*) \|$", page, re.M)
    assert [int(number) for number, _, _ in rows] == list(range(1, 21))
    source = _sources()
    for number, tests, points in rows:
        for test in re.findall(r"`([^`]*)`", tests):
            assert f"def {test}(" in source, test
            assert test.startswith(f"test_case_{int(number):02}_"), test
        assert set(re.findall(r"`([^`]*)`", points)) <= POINTS.keys()


def test_a_step_that_does_not_happen(schedule: Schedule, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule_module, "SECONDS", 0.05)
    with pytest.raises(AssertionError, match=r"this did not happen: one\s+reaches"):
        schedule("one reaches nowhere\none ends", one=lambda: None)
    lock = threading.Lock()
    with lock, pytest.raises(AssertionError, match=r"this does not happen(.|\n)*lock\.acquire"):
        schedule("one ends", one=lambda: lock.acquire(timeout=0.2))


def test_who_fails(schedule: Schedule) -> None:
    def fail() -> None:
        raise KeyError("it")

    assert isinstance(schedule("one fails", one=fail)["one"], KeyError)
    with pytest.raises(KeyError):
        schedule("one ends", one=fail)
    with pytest.raises(AssertionError, match="has not failed"):
        schedule("one fails", one=lambda: None)


@pytest.mark.parametrize("script", ["one comes", "one ends here", "one reaches", "one goes off"])
def test_what_is_no_step(script: str) -> None:
    with pytest.raises(AssertionError, match="not a step"):
        parse(script)


def test_nobody_is_left_alone(schedule: Schedule) -> None:
    with pytest.raises(AssertionError, match="leaves somebody alone"):
        schedule("one goes on", one=lambda: None)
    with pytest.raises(AssertionError, match="actors and script differ"):
        schedule("one ends", two=lambda: None)
