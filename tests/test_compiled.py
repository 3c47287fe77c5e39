"""The compiled form of a hit is built and comes to what the pure one does."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from .databases import REQUIRED

ROOT = Path(__file__).resolve().parents[1]

BUILD = """
import sys
from pathlib import Path
from hatch_build import compile_hit
print(compile_hit(Path.cwd(), Path(sys.argv[1])), file=sys.stderr)
"""

INTERPRETERS = """
import importlib, sys
name = "_interpreters" if sys.version_info >= (3, 13) else "_xxsubinterpreters"
interpreters = importlib.import_module(name)
script = '''
from contextvars import ContextVar
from importlib.machinery import ExtensionFileLoader
from importlib.util import module_from_spec, spec_from_loader
loader = ExtensionFileLoader("coherent_cache._hit", FILE)
module = module_from_spec(spec_from_loader("coherent_cache._hit", loader))
loader.exec_module(module)
class Attribute(module.Property):
    pass
class Thing:
    attribute = Attribute(lambda self: "from the getter")
thing = Thing()
memo = ContextVar("memo", default=[None, {thing: "from the memo"}])
assert thing.attribute == "from the getter"
Thing.attribute._answer_from(memo, 1)
assert thing.attribute == "from the memo"
'''
script = script.replace("FILE", repr(sys.argv[1]))
exec(script)
for _ in range(3):
    one = interpreters.create()
    error = interpreters.run_string(one, script)
    assert error is None, error
    interpreters.destroy(one)
print("fine")
"""


def needs_a_compiler() -> None:
    """Skip (or fail) where no extension can be built."""
    compiler = os.environ.get("CC") or sysconfig.get_config_var("CC") or "cl"
    reason = None
    if shutil.which(shlex.split(compiler)[0]) is None:
        reason = f"there is no C compiler ({compiler})"
    elif not Path(sysconfig.get_path("include"), "Python.h").exists():
        reason = "there is no Python.h"
    if reason is not None:
        if REQUIRED:
            pytest.fail(f"required: {reason}")
        pytest.skip(reason)


@pytest.fixture(scope="module")
def extension(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of the extension, built without a warning."""
    needs_a_compiler()
    warnings = "-Wall -Wextra -Werror -Wno-unused-parameter -Wno-missing-field-initializers"
    target = str(tmp_path_factory.mktemp("extension"))
    said = _run([sys.executable, "-c", BUILD, target], {"CFLAGS": warnings}).stderr
    return Path(said.splitlines()[-1])


@pytest.mark.long
@pytest.mark.thorough
@pytest.mark.parametrize("options", [[], ["-X", "dev"]], ids=["plainly", "in development mode"])
def test_the_same_tests_pass(extension: Path, options: list[str]) -> None:
    command = [sys.executable, *options, "-m", "pytest", "-q", "-p", "tests.compiled_form"]
    tests = ["tests/test_hit.py", "tests/test_getters.py", "tests/test_first_read.py"]
    run = _run([*command, "-p", "no:cacheprovider", *tests], {"COHERENT_CACHE_HIT": str(extension)})
    assert " passed" in run.stdout
    assert "skipped" not in run.stdout


def test_in_subinterpreters(extension: Path) -> None:
    assert _run([sys.executable, "-c", INTERPRETERS, str(extension)]).stdout == "fine\n"


@pytest.mark.parametrize(
    "arguments",
    [
        "object(), 1",
        "memo, 0",
        "memo, -1",
        "memo, 1 << 80",
        "memo, 1, 'name'",
        "memo, 1, 1, print",
        "memo",
        "",
    ],
)
def test_arguments_that_cannot_be(extension: Path, arguments: str) -> None:
    """They leave the attribute as it was."""
    script = f"""
import sys
from contextvars import ContextVar
import tests.compiled_form
from coherent_cache.hit import Property
class Attribute(Property):
    pass
class Thing:
    attribute = Attribute(lambda self: 1)
memo = ContextVar("memo", default=[])
try:
    Thing.attribute._answer_from({arguments})
except (TypeError, ValueError, OverflowError):
    pass
else:
    sys.exit("taken")
assert Thing().attribute == 1
"""
    _run([sys.executable, "-X", "dev", "-c", script], {"COHERENT_CACHE_HIT": str(extension)})


def _run(
    command: list[str], environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    run = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": _path(), **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return run


def _path() -> str:
    """The repository comes first, as it does here."""
    return os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
