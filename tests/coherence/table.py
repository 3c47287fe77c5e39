"""The figures of runs as lines of a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from .anomaly import NAMES
from .run import Verdict

HEADER = (
    f"{'workload':10} {'database':14} {'isolation':15} {'reads':>7} {'writes':>6} {'commits':>7} "
    f"{'errors':>6} {'checks':>6} {'calls':>6} {'least':>6} {'hits':>6} {'lag ms':>7}  anomalies"
)


def row(verdict: Verdict) -> str:
    """One run.

    ``calls`` are retriever calls, ``least`` the least possible: each value that a process has seen
    had to be computed there once.  ``lag`` is how long the most outdated value that was read had
    been so, by a request that had begun before.
    """
    plan = verdict.plan
    return (
        f"{plan.workload:10} {plan.kind:14} {plan.isolation:15} {verdict.reads:7} "
        f"{verdict.writes:6} {verdict.commits:7} {verdict.counts.get('errors', 0):6} "
        f"{verdict.checks:6} {verdict.calls:6} {verdict.least:6} {verdict.hits:6.1%} "
        f"{verdict.worst_lag:7.1f}  {named({n: verdict.count(n) for n in NAMES})}"
    )


def named(found: Mapping[str, int]) -> str:
    """Anomalies by name, or that there are none."""
    return ", ".join(f"{count} {name}" for name, count in found.items() if count) or "none"


@dataclass
class Total:
    """All rounds on one database at one isolation level."""

    rounds: int = 0
    failed: int = 0
    reads: int = 0
    writes: int = 0
    commits: int = 0
    worst_lag: float = 0.0
    counts: dict[str, int] = field(default_factory=dict)
    anomalies: dict[str, int] = field(default_factory=dict)

    def add(self, verdict: Verdict) -> None:
        self.rounds += 1
        self.reads += verdict.reads
        self.writes += verdict.writes
        self.commits += verdict.commits
        self.worst_lag = max(self.worst_lag, verdict.worst_lag)
        for name, count in verdict.counts.items():
            self.counts[name] = self.counts.get(name, 0) + count
        for anomaly in verdict.anomalies:
            self.anomalies[anomaly.name] = self.anomalies.get(anomaly.name, 0) + 1

    def __add__(self, other: Total) -> Total:
        both = Total()
        for each in (self, other):
            both.rounds += each.rounds
            both.failed += each.failed
            both.reads += each.reads
            both.writes += each.writes
            both.commits += each.commits
            both.worst_lag = max(both.worst_lag, each.worst_lag)
            for name, count in each.counts.items():
                both.counts[name] = both.counts.get(name, 0) + count
            for name, count in each.anomalies.items():
                both.anomalies[name] = both.anomalies.get(name, 0) + count
        return both


#: Which of the names that disturbers write down are counted as what.
_KILLS = ("kill", "die")
_CUTS = ("cut", "cut-wire", "restart")


def totals(by_place: Mapping[tuple[str, str], Total]) -> Iterable[str]:
    """The table of a long run, line by line."""
    yield (
        f"{'database':14} {'isolation':15} {'rounds':>6} {'reads':>9} {'writes':>8} {'commits':>8} "
        f"{'tier hits':>9} {'kills':>5} {'cuts':>5} {'errors':>7} {'lag ms':>8}  anomalies"
    )
    everything = Total()
    for (kind, isolation), total in by_place.items():
        everything += total
        yield _line(kind, isolation, total)
    yield _line("all", "", everything)
    if everything.failed:
        yield f"{everything.failed} rounds came to no end by themselves: see above."
    if everything.reads and not everything.anomalies:
        yield (
            f"No anomaly in n = {everything.reads} reads: with 95 % confidence the rate under "
            f"these conditions is below 3/n = {3 / everything.reads:.1e}."
        )


def _line(kind: str, isolation: str, total: Total) -> str:
    def sum_of(names: Iterable[str]) -> int:
        return sum(total.counts.get(name, 0) for name in names)

    return (
        f"{kind:14} {isolation:15} {total.rounds:6} {total.reads:9} {total.writes:8} "
        f"{total.commits:8} {sum_of(('tier-hits',)):9} {sum_of(_KILLS):5} "
        f"{sum_of(_CUTS):5} {sum_of(('errors',)):7} {total.worst_lag:8.1f}  "
        f"{named(total.anomalies)}"
    )
