"""``python -m pytest -p tests.compiled_form …`` runs tests on the compiled form of a hit.

The extension is the file that COHERENT_CACHE_HIT names, else that of the package as it is
installed (``tox -e compiled``); everything else is taken from the repository.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from importlib.machinery import ExtensionFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

_NAME = "coherent_cache._hit"


def _load() -> Path:
    assert "coherent_cache" not in sys.modules, "it has decided without the extension"
    installed = f"coherent_cache/_hit{sysconfig.get_config_var('EXT_SUFFIX')}"
    given = os.environ.get("COHERENT_CACHE_HIT")
    file = Path(given) if given else Path(sysconfig.get_path("platlib"), installed)
    loader = ExtensionFileLoader(_NAME, str(file))
    spec = spec_from_loader(_NAME, loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    sys.modules[_NAME] = module
    return file


_FILE = _load()


def pytest_sessionstart() -> None:
    from coherent_cache import CachedProperty
    from coherent_cache.hit import COMPILED

    assert COMPILED
    assert "Property" in [kind.__name__ for kind in CachedProperty.__mro__]


def pytest_report_header() -> str:
    return f"on the compiled form of a hit: {_FILE.name}"
