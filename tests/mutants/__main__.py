"""Runs the mutants; see the package."""

from __future__ import annotations

import importlib
import os
import pkgutil
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import tests.mutants

from .mutant import Mutant

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 120


def all_mutants() -> list[Mutant]:
    found: list[Mutant] = []
    for module in pkgutil.iter_modules(tests.mutants.__path__):
        if module.name not in ("mutant", "__main__"):
            found += importlib.import_module(f"tests.mutants.{module.name}").MUTANTS
    return found


def convict(mutant: Mutant) -> list[str]:
    """Return the tests that did not notice."""
    with tempfile.TemporaryDirectory() as directory:
        copy = Path(directory)
        for name in ("coherent_cache", "tests", "migrations", "docs"):
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("pyproject.toml", "alembic.ini"):
            shutil.copy(ROOT / name, copy)
        file = copy / "coherent_cache" / mutant.file
        source = file.read_text()
        if source.count(mutant.old) != 1:
            return [f"{mutant.file}: the text to replace occurs {source.count(mutant.old)} times"]
        file.write_text(source.replace(mutant.old, mutant.new))
        blind = []
        for test in mutant.tests:
            run = subprocess.run(
                [sys.executable, "-m", "pytest", "-q", "-x", "--timeout=60", f"tests/{test}"],
                cwd=copy,
                env={**os.environ, "PYTHONPATH": str(copy), "PYTHONSAFEPATH": ""},
                capture_output=True,
                text=True,
                timeout=SECONDS,
                check=False,
            )
            if run.returncode != 1:
                blind.append(f"{test} (pytest's exit {run.returncode})")
        return blind


def main(names: list[str]) -> int:
    survivors = 0
    chosen = [m for m in all_mutants() if not names or m.name in names]
    for number, mutant in enumerate(chosen, 1):
        blind = convict(mutant)
        survivors += bool(blind)
        verdict = "SURVIVED: " + ", ".join(blind) if blind else "convicted"
        print(f"[{number}/{len(chosen)}] {mutant.name:45} {verdict}", flush=True)
    print(f"{len(chosen) - survivors} convicted, {survivors} survived")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
