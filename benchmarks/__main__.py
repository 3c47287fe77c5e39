"""``python -m benchmarks``: run, print the tables, keep the record."""

from __future__ import annotations

import argparse
import signal
import sys

from . import machine, registry, results
from .registry import Options
from .tables import Table, render


def main() -> None:
    """Read the command line and do what it says."""
    # Servers that were started end with it, however it ends.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(registry.NAMES))
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    parser.add_argument("--minutes", type=float, help="how long to watch what happens over time")
    parser.add_argument(
        "--databases",
        default=",".join(Options.databases),
        help="kinds, with commas between (%(default)s)",
    )
    parser.add_argument(
        "--only", default="", metavar="TEXT", help="load: only tables whose title has it"
    )
    parser.add_argument("--no-record", action="store_true", help="keep no file")
    parser.add_argument("--list", action="store_true", help="say what each benchmark does")
    parser.add_argument(
        "--compare", nargs=2, metavar=("A", "B"), help="two records: files, or parts of their names"
    )
    parser.add_argument("--show", metavar="RECORD", help="print the tables of a record")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.names) - set(registry.NAMES))
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(registry.NAMES)}")
    if arguments.compare:
        print(results.compare(*map(results.load, arguments.compare)))
    elif arguments.show:
        for name, tables in results.tables_of(results.load(arguments.show)).items():
            print(f"## {name}\n")
            print("\n".join(map(render, tables)))
    elif arguments.list:
        for name in registry.NAMES:
            print(f"{name}\n    " + registry.find(name).says.replace("\n", "\n    ") + "\n")
    else:
        options = Options(
            quick=arguments.quick,
            minutes=arguments.minutes,
            databases=tuple(arguments.databases.split(",")),
            only=arguments.only,
        )
        run(arguments.names or registry.NAMES, options, keep=not arguments.no_record)


def run(names: list[str] | tuple[str, ...], options: Options, *, keep: bool = True) -> None:
    """Run the benchmarks called *names*, print what they find, and keep it."""
    ran_on = machine.describe()
    databases = ", ".join(f"{name} {found}" for name, found in ran_on["databases"].items())
    print(f"{ran_on['date']}, revision {ran_on['revision']}, {ran_on['python']}, {databases}\n")
    found: dict[str, list[Table]] = {}
    try:
        for name in names:
            benchmark = registry.find(name)
            print(f"## {name}\n\n{benchmark.says}\n")
            for table in benchmark.run(options):
                found.setdefault(name, []).append(table)
                options.progress.clear()
                print(render(table), flush=True)
    finally:  # what an interrupted run has found is kept as well
        if keep and found:
            path = results.save(ran_on, found, quick=options.quick)
            print(f"Kept in {path.relative_to(path.parent.parent.parent)}")


if __name__ == "__main__":
    main()
