"""Runs the tests of a mutant in a copy of the tree in which it is applied."""

from __future__ import annotations

import os
import queue
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from .mutant import Mutant

ROOT = Path(__file__).resolve().parents[2]
#: A mutant that makes a test wait for ever is convicted by pytest's timeout; these are for one
#: test, and for the whole of a run.
TEST_SECONDS = 30
RUN_SECONDS = 180


class Verdict(NamedTuple):
    """*blind* are the tests that did not notice."""

    mutant: Mutant
    blind: list[str]
    seconds: float


#: How often a mutant is tried that its tests did not notice.  On PostgreSQL a transaction that
#: anybody has open, in any database of the server, may let a process drop more than it has to, and
#: so hide that it would not have dropped enough.
TRIES = 3


def convict(mutants: Sequence[Mutant], *, jobs: int = 1, quick: bool = False) -> Iterator[Verdict]:
    """Yield what became of each of *mutants*, in the order in which they end.

    With *quick* only the first test of each is run.
    """
    trees: queue.SimpleQueue[Path] = queue.SimpleQueue()

    def judge(mutant: Mutant) -> Verdict:
        start = time.monotonic()
        tree = trees.get()
        try:
            blind = _blind_tests(tree, mutant, mutant.tests[:1] if quick else mutant.tests)
        finally:
            trees.put(tree)
        return Verdict(mutant, blind, time.monotonic() - start)

    with tempfile.TemporaryDirectory() as directory:
        for number in range(jobs):
            trees.put(_copy_of_the_tree(Path(directory) / str(number)))
        with ThreadPoolExecutor(jobs) as pool:
            for future in as_completed([pool.submit(judge, mutant) for mutant in mutants]):
                yield future.result()


def _copy_of_the_tree(copy: Path) -> Path:
    # With its compiled modules, which are known by the time of their source: most of what a run
    # costs would be compiling them again.
    for name in ("coherent_cache", "tests", "migrations", "docs", "example_app"):
        # Files that are being written, by other processes that compile: gone in a moment.
        unfinished = shutil.ignore_patterns("*.pyc.*")
        shutil.copytree(ROOT / name, copy / name, ignore=unfinished)
    for name in ("pyproject.toml", "alembic.ini", "README.md", "hatch_build.py"):
        shutil.copy2(ROOT / name, copy)
    return copy


def _blind_tests(tree: Path, mutant: Mutant, tests: Sequence[str]) -> list[str]:
    if mutant.occurrences() != 1:
        return [f"{mutant.file}: the text to replace occurs {mutant.occurrences()} times"]
    with _applied(tree / "coherent_cache" / mutant.file, mutant):
        return [f"{test} ({said})" for test in tests if (said := _try(tree, test)) is not None]


@contextmanager
def _applied(file: Path, mutant: Mutant) -> Iterator[None]:
    source = file.read_text()
    file.write_text(source.replace(mutant.old, mutant.new))
    _forget_compiled(file)
    try:
        yield
    finally:
        file.write_text(source)
        _forget_compiled(file)


def _forget_compiled(file: Path) -> None:
    for compiled in (file.parent / "__pycache__").glob(f"{file.stem}.*"):
        compiled.unlink()


def _try(tree: Path, test: str) -> str | None:
    """`_run`, until *test* fails or was tried often enough."""
    said: str | None = ""
    for _ in range(TRIES):
        said = _run(tree, test)
        if said is None:
            break
    return said


def _run(tree: Path, test: str) -> str | None:
    """What pytest says if *test* does not fail, None if it fails."""
    try:
        run = subprocess.run(
            [
                *(sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"),
                *(f"--timeout={TEST_SECONDS}", f"tests/{test}"),
            ],
            cwd=tree,
            env={**os.environ, "PYTHONPATH": str(tree), "PYTHONSAFEPATH": ""},
            capture_output=True,
            timeout=RUN_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"no end within {RUN_SECONDS} s"
    # 1: tests failed; others: nothing was collected, bad usage, an error of pytest's own.
    return None if run.returncode == 1 else f"pytest's exit {run.returncode}"
