"""The built wheel, installed without the repository, has all that a user needs."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with nothing in it but the installed wheel."""
    directory = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir"]
    _run([*build, str(directory / "dist"), str(ROOT)], directory)
    (wheel,) = (directory / "dist").glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert not [name for name in names if name.startswith(("tests/", "example_app/", "docs/"))]
    target = directory / "installed"
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--quiet", "--target"]
    _run([*pip, str(target), str(wheel)], directory)
    return target


def test_has_types_and_every_module(installed: Path) -> None:
    assert (installed / "coherent_cache" / "py.typed").exists()
    source = ROOT / "coherent_cache"
    expected = {str(path.relative_to(source)) for path in source.rglob("*.py")}
    found = {
        str(path.relative_to(installed / "coherent_cache"))
        for path in (installed / "coherent_cache").rglob("*.py")
    }
    assert found == expected


def test_works_without_the_repository(installed: Path, tmp_path: Path) -> None:
    story = """
import sys
from sqlalchemy import create_engine
import coherent_cache
from coherent_cache import CacheManager, cached
assert coherent_cache.__file__.startswith(sys.argv[1]), coherent_cache.__file__
class Thing:
    cache_manager = CacheManager(create_engine("sqlite:///story.db"))
    calls = 0
    @cached
    def value(self):
        self.calls += 1
        return self.calls
thing = Thing()
thing.cache_manager.create_table()
assert (thing.value, thing.value) == (1, 1)
del thing.value
assert thing.value == 2
"""
    _run([sys.executable, "-P", "-c", story, str(installed)], tmp_path, installed)


def test_brings_the_command(installed: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(installed / "bin" / "coherent-cache")]
    url = ["--url", "sqlite:///command.db"]
    _run([*command, *url, "init"], tmp_path, installed)
    assert "rows" in _run([*command, *url, "status"], tmp_path, installed)


def _run(command: list[str], directory: Path, path: Path | None = None) -> str:
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    if path is not None:
        environment["PYTHONPATH"] = str(path)
    run = subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout
