"""Times things against each other.

The machine is never quiet and its clock rate moves, so absolute figures of two runs say little.
What is compared is timed in turn, many times within one run; each round gives one ratio to the
reference that was timed in the same round, and the median of the ratios is what counts.
"""

from __future__ import annotations

import gc
import statistics
import time
import timeit
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .progress import Progress
from .tables import Row

#: *timed(n)* does something n times and returns the seconds it took altogether.
Timed = Callable[[int], float]


@dataclass(frozen=True)
class Case:
    """Something to be timed.

    :param target: the ratio that it should not exceed, None if it stands beside for comparison.
    """

    name: str
    timed: Timed
    target: float | None = None
    note: str = ""


def statement(text: str, **names: Any) -> Timed:
    """Time a statement as `timeit` does: nothing around it but the loop.

    In processor time: it is for what never waits, and then other programs do not count.
    """
    return timeit.Timer(text, timer=time.process_time, globals=dict(names)).timeit


def call(function: Callable[[], object], timer: Callable[[], float] = time.perf_counter) -> Timed:
    """Time a call; for what takes microseconds and more, where a call does not matter."""
    return timeit.Timer("function()", timer=timer, globals={"function": function}).timeit


def measure(
    cases: Sequence[Case],
    *,
    reference: str,
    rounds: int,
    seconds: float = 0.01,
    progress: Progress | None = None,
    title: str = "",
) -> list[Row]:
    """Time *cases* in turn, *rounds* times, each for about *seconds*; ratios are to the case
    called *reference*."""
    numbers = {case.name: _calibrate(case.timed, seconds) for case in cases}
    times: Mapping[str, list[float]] = {case.name: [] for case in cases}
    enabled = gc.isenabled()
    for done in range(rounds):
        if progress is not None:
            progress.step(f"{title}: round {done + 1} of {rounds}")
        # The order turns, so that none is always behind the same neighbour.
        turned = [*cases[done % len(cases) :], *cases[: done % len(cases)]]
        gc.collect()
        gc.disable()
        try:
            for case in turned:
                number = numbers[case.name]
                times[case.name].append(case.timed(number) / number)
        finally:
            if enabled:
                gc.enable()
    return [_row(case, times[case.name], times[reference]) for case in cases]


def _calibrate(timed: Timed, seconds: float) -> int:
    """How often to repeat so that one timing takes about *seconds*."""
    number = 1
    while True:
        took = timed(number)
        if took >= seconds / 4:
            # Once more, if the machine was elsewhere for that moment: what is repeated too seldom
            # is measured with all that is around it.
            took = min(took, timed(number))
        if took >= seconds / 4:
            return max(1, round(number * seconds / took))
        number *= 4


def _row(case: Case, times: Sequence[float], reference: Sequence[float]) -> Row:
    ratios = [mine / other for mine, other in zip(times, reference, strict=True)]
    return Row(
        case.name,
        seconds=statistics.median(times),
        ratio=statistics.median(ratios),
        lowest=min(ratios),
        highest=max(ratios),
        target=case.target,
        note=case.note,
    )
