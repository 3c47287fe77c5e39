"""``python -m tests.coherence.soak --minutes 30``: a long run, and a table of what it came to.

It plays rounds of some seconds, each on a database of its own: every database and isolation level
in turn, with another workload each time, two of three with a tier and, every other time, with a
fault.  So it can run for as long as you like, and a round that shows an anomaly can be played again
by the line it prints.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time

from ..databases import SERVICES, unavailable
from .__main__ import show
from .crew import WorkerFailed
from .faults.catalogue import FAULTS
from .plan import in_mode
from .rounds import play
from .table import Total, totals
from .tiers import KINDS, SERIALIZERS
from .workloads.catalogue import WORKLOADS
from .workloads.tables import LEVELS


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.coherence.soak",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--database", choices=LEVELS, action="append", help="these only")
    parser.add_argument("--workload", choices=WORKLOADS, action="append", help="these only")
    parser.add_argument("--fault", choices=[*FAULTS, "none"], action="append", help="these only")
    parser.add_argument(
        "--freshness",
        default="strict",
        help="the mode: strict, shared-memory, one-host, the seconds of Bounded, or push:SECONDS",
    )
    parser.add_argument("--tier", choices=[*KINDS, "none"], action="append", help="these only")
    parser.add_argument("--seconds", type=float, default=15.0, help="for each round")
    parser.add_argument("--processes", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2, help="of each process, or tasks")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    parser.add_argument("--stories", type=int, default=3, help="how many anomalies a round tells")
    return parser.parse_args()


class Soak:
    """The rounds, and what they came to."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._is_strict = options.freshness in ("strict", "shared-memory")
        self.totals: dict[tuple[str, str], Total] = {}
        self._begun = time.monotonic()
        self._wrong = 0

    def run(self) -> None:
        """Play rounds until the time is over; at least one in each place."""
        options = self._options
        chosen = options.database or LEVELS
        places = [(kind, level) for kind in chosen if self._answers(kind) for level in LEVELS[kind]]
        workloads = itertools.cycle(options.workload or WORKLOADS)
        for number in itertools.count() if places else ():
            kind, isolation = places[number % len(places)]
            if number >= len(places) and self._left() < options.seconds:
                return
            fault = self._fault(kind, number % len(places), number // len(places))
            workload = next(workloads)
            if fault and WORKLOADS[workload].is_async:
                workload = next(name for name in workloads if not WORKLOADS[name].is_async)
            tier, serializer = self._tier(number)
            if fault.startswith("tier") and tier in ("", "file"):
                tier = "redis"  # a file cannot be full, and has no connections
            self._play(number, kind, isolation, workload, fault, tier, serializer)

    def _fault(self, kind: str, place: int, turn: int) -> str:
        """Each place has a fault every other turn, and all that can happen there one by one."""
        chosen = self._options.fault or FAULTS
        possible = [name for name in chosen if name != "none" and kind in FAULTS[name].on]
        if not self._is_strict:
            # It is judged as of its end, and a bound reaches back; and nobody announces it.
            possible = [name for name in possible if name != "restore"]
        if not possible or (place + turn) % 2 == 0:
            return ""
        return possible[(place + turn // 2) % len(possible)]

    def _tier(self, number: int) -> tuple[str, str]:
        """A kind of tier for two rounds of three, and a serializer."""
        chosen = self._options.tier or [*KINDS, "none", KINDS[0], KINDS[1], "none"]
        # Not in step with the places, nor with the workloads.
        tier = chosen[(number + number // len(chosen)) % len(chosen)]
        return "" if tier == "none" else tier, SERIALIZERS[number // 2 % 2]

    def _left(self) -> float:
        left: float = self._options.minutes * 60 - (time.monotonic() - self._begun)
        return left

    def _answers(self, kind: str) -> bool:
        reason = unavailable(kind) if kind in SERVICES else None
        if reason is not None:
            print(f"NOT TESTED on {kind}: {reason}", flush=True)
        return reason is None

    def _play(
        self,
        number: int,
        kind: str,
        isolation: str,
        workload: str,
        fault: str,
        tier: str,
        serializer: str,
    ) -> None:
        options = self._options
        seed = options.seed + number
        command = (
            f"python -m tests.coherence --database {kind} --isolation '{isolation}' --workload "
            f"{workload} --seconds {options.seconds:g} --processes {options.processes} --threads "
            f"{options.threads} --seed {seed}{f' --fault {fault}' if fault else ''}"
            f"{f' --freshness {options.freshness}' if options.freshness != 'strict' else ''}"
            f"{f' --tier {tier} --serializer {serializer}' if tier else ''}"
        )
        total = self.totals.setdefault((kind, isolation), Total())

        def progress(line: str) -> None:
            left = max(0.0, self._left()) / 60
            show(
                f"{left:.1f} min left, {self._wrong} wrong; round {number + 1}: {kind} {isolation} "
                f"{workload} {fault} {tier}: {line}"
            )

        try:
            verdict = play(
                kind,
                isolation,
                options.processes,
                progress,
                faults=[fault] if fault else [],
                workload=workload,
                seconds=options.seconds,
                threads=options.threads,
                seed=seed,
                **in_mode(options.freshness),
                tier=tier,
                serializer=serializer,
            )
        except WorkerFailed as error:
            total.failed += 1
            print(f"\n{command}\n{error}", flush=True)
            return
        total.add(verdict)
        if tier and not fault and not verdict.tier_hits:
            # Whatever else was seen, it says nothing of a tier.
            total.failed += 1
            print(f"\n{command}\nnothing was found in the tier", flush=True)
        self._wrong += len(verdict.anomalies)
        if verdict.anomalies:
            print(f"\n{command}\n{len(verdict.anomalies)} anomalies", flush=True)
            for anomaly in verdict.anomalies[: options.stories]:
                print(anomaly, flush=True)
        if not sys.stderr.isatty():
            print(
                f"round {number + 1}: {kind} {isolation} {workload} {fault or 'no fault'}, "
                f"{tier or 'no tier'}: {verdict.reads} reads, {verdict.tier_hits} from the tier, "
                f"{len(verdict.anomalies)} anomalies",
                flush=True,
            )


def main() -> int:
    options = _options()
    soak = Soak(options)
    print(f"seed {options.seed}, {options.processes} processes × {options.threads}", flush=True)
    try:
        soak.run()
    except KeyboardInterrupt:
        print("\nstopped", flush=True)
    show("")
    for line in totals(soak.totals):
        print(line)
    wrong = [t for t in soak.totals.values() if t.anomalies or t.failed]
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
