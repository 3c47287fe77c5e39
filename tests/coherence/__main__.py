"""``python -m tests.coherence``: run workloads, judge what was seen, and print a table."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from .broken import CACHES
from .faults.broken import CACHES as BROKEN_BY_FAULTS
from .faults.catalogue import FAULTS
from .plan import in_mode
from .rounds import play
from .table import HEADER, row
from .tiers import KINDS, SERIALIZERS
from .workloads.catalogue import WORKLOADS
from .workloads.tables import LEVELS


def show(line: str) -> None:
    """Show how far it is, where somebody looks on."""
    if sys.stderr.isatty():
        print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.coherence",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="workloads:\n"
        + "\n".join(f"  {name:12} {each.about}" for name, each in WORKLOADS.items()),
    )
    parser.add_argument("--database", choices=LEVELS, help="one database only")
    parser.add_argument("--isolation", help="one isolation level only (on SQLite how it begins)")
    parser.add_argument("--workload", choices=[*WORKLOADS, "all"], default="mixed")
    parser.add_argument("--fault", choices=FAULTS, action="append", default=[])
    parser.add_argument("--seconds", type=float, default=10.0, help="for each run")
    parser.add_argument("--processes", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2, help="of each process, or tasks")
    parser.add_argument("--items", type=int, default=0, help="how many; a few are hot")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    parser.add_argument(
        "--broken",
        choices=[*CACHES, *BROKEN_BY_FAULTS],
        default="",
        help="break the cache on purpose",
    )
    parser.add_argument("--tier", choices=KINDS, default="", help="a tier for the values")
    parser.add_argument("--serializer", choices=SERIALIZERS, default="typed")
    parser.add_argument(
        "--freshness",
        default="strict",
        help="the mode: strict, shared-memory, one-host, the seconds of Bounded, or push:SECONDS",
    )
    parser.add_argument(
        "--bound",
        type=float,
        help="milliseconds that a value may be behind (default: what the mode promises)",
    )
    parser.add_argument("--stories", type=int, default=3, help="how many anomalies are told")
    parser.add_argument("--logs", type=Path, help="leave the workers' logs in this directory")
    return parser.parse_args()


def main() -> int:
    options = _options()
    print(f"seed {options.seed}\n{HEADER}", flush=True)
    found = 0
    for workload in WORKLOADS if options.workload == "all" else [options.workload]:
        for kind, levels in LEVELS.items():
            if options.database not in (None, kind):
                continue
            for isolation in [options.isolation] if options.isolation else levels:
                where = f"{workload} {kind} {isolation}"
                logs = options.logs and options.logs / where.replace(" ", "-")
                if logs is not None:
                    logs.mkdir(parents=True)
                mode = in_mode(options.freshness)
                if options.bound is not None:
                    mode["bound"] = options.bound
                verdict = play(
                    kind,
                    isolation,
                    options.processes,
                    lambda line, where=where: show(f"{where}: {line}"),  # type: ignore[misc]
                    faults=options.fault,
                    logs=logs,
                    workload=workload,
                    seconds=options.seconds,
                    threads=options.threads,
                    items=options.items,
                    seed=options.seed,
                    broken=options.broken,
                    **mode,
                    tier=options.tier,
                    serializer=options.serializer,
                )
                show("")
                print(row(verdict), flush=True)
                if options.tier:
                    print(f"  {verdict.tier_hits} found in the tier", flush=True)
                for anomaly in verdict.anomalies[: options.stories]:
                    print(anomaly, flush=True)
                found += len(verdict.anomalies)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
