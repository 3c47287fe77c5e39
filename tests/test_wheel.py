"""The built wheel, installed without the repository, has all that a user needs."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from .test_compiled import needs_a_compiler

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with nothing in it but the installed wheel."""
    directory = tmp_path_factory.mktemp("wheel")
    wheel = _build(directory, "--wheel")
    assert wheel.name.endswith("-py3-none-any.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert not [name for name in names if name.startswith(("tests/", "example_app/", "docs/"))]
    assert not [name for name in names if "_hit" in name]
    return _install(wheel, directory)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same of the wheel with the compiled form, built from the source distribution."""
    needs_a_compiler()
    directory = tmp_path_factory.mktemp("compiled")
    wheel = _build(directory, compiled=True)
    assert not wheel.name.endswith("-any.whl")
    (built,) = [name for name in zipfile.ZipFile(wheel).namelist() if "_hit" in name]
    assert built == f"coherent_cache/_hit{sysconfig.get_config_var('EXT_SUFFIX')}"
    return _install(wheel, directory)


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


@pytest.mark.parametrize("pure", ["", "1"], ids=["compiled", "pure"])
def test_uses_the_compiled_form_unless_told(compiled: Path, tmp_path: Path, pure: str) -> None:
    story = """
import sys
from sqlalchemy import create_engine
from coherent_cache import CacheManager, CachedProperty, cached, hit
assert hit.__file__.startswith(sys.argv[1]), hit.__file__
kinds = [kind.__module__ for kind in CachedProperty.__mro__ if kind.__base__ is property]
print(hit.COMPILED, kinds)
class Thing:
    cache_manager = CacheManager(create_engine("sqlite:///story.db"))
    name = "thing"
    @cached
    def single(self):
        return object()
    @cached("name")
    def keyed(self):
        return object()
thing = Thing()
thing.cache_manager.create_table()
with thing.cache_manager.request():
    single, keyed = thing.single, thing.keyed
    for _ in range(3):
        assert thing.single is single and thing.keyed is keyed
    del thing.single, thing.keyed
    assert thing.single is not single and thing.keyed is not keyed
"""
    told = {"COHERENT_CACHE_PURE": pure}
    said = _run([sys.executable, "-P", "-c", story, str(compiled)], tmp_path, compiled, told)
    base = "coherent_cache.descriptors" if pure else "coherent_cache._hit"
    assert said.split("\n")[0] == f"{not pure} ['{base}']"


def test_an_editable_install_is_not_compiled(tmp_path: Path) -> None:
    """It would stand in the repository, for whoever imports the package from there."""
    script = "from hatchling.build import build_editable; import sys; build_editable(sys.argv[1])"
    asked = {**os.environ, "COHERENT_CACHE_COMPILE": "1"}
    command = [sys.executable, "-c", script, str(tmp_path)]
    run = subprocess.run(command, cwd=ROOT, env=asked, capture_output=True, text=True, check=False)
    assert run.returncode != 0
    assert "an editable install has the pure form" in run.stderr


def _build(directory: Path, *options: str, compiled: bool = False) -> Path:
    build = [sys.executable, "-m", "build", *options, "--no-isolation", "--outdir"]
    asked = {"COHERENT_CACHE_COMPILE": "1" if compiled else ""}
    _run([*build, str(directory / "dist"), str(ROOT)], directory, environment=asked)
    (wheel,) = (directory / "dist").glob("*.whl")
    return wheel


def _install(wheel: Path, directory: Path) -> Path:
    target = directory / "installed"
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--quiet", "--target"]
    _run([*pip, str(target), str(wheel)], directory)
    return target


def _run(
    command: list[str],
    directory: Path,
    path: Path | None = None,
    environment: dict[str, str] | None = None,
) -> str:
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **(environment or {})}
    if path is not None:
        environment["PYTHONPATH"] = str(path)
    run = subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout
