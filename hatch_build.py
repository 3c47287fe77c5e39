"""Builds the compiled form of a hit into the wheel if COHERENT_CACHE_COMPILE=1; else the wheel is
pure Python, for every platform."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_MODULE = "coherent_cache._hit"


class CompiledHit(BuildHookInterface[Any]):
    """The build hook of the wheel."""

    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        """What the build needs besides: nothing for the pure form."""
        return ["setuptools>=65"] if _is_asked_for() else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile before the wheel's files are collected."""
        if not _is_asked_for():
            return
        if version == "editable":
            raise RuntimeError(
                "an editable install has the pure form: unset COHERENT_CACHE_COMPILE"
            )
        self._temporary = tempfile.TemporaryDirectory()
        built = compile_hit(Path(self.root), Path(self._temporary.name))
        build_data["force_include"][str(built)] = f"coherent_cache/{built.name}"
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what was compiled; the wheel has it."""
        if _is_asked_for():
            self._temporary.cleanup()


def compile_hit(root: Path, target: Path) -> Path:
    """Compile the extension of the package below *root* for this Python into the directory
    *target*, and return its file."""
    from setuptools import Distribution, Extension
    from setuptools.command.build_ext import build_ext

    source = root / "coherent_cache" / "_hit.c"
    extension = Extension(_MODULE, [str(source)])
    command = build_ext(Distribution({"name": "coherent-cache", "ext_modules": [extension]}))
    command.build_lib = str(target / "lib")
    command.build_temp = str(target / "temp")
    command.ensure_finalized()
    command.run()
    return Path(command.get_ext_fullpath(_MODULE))


def _is_asked_for() -> bool:
    return os.environ.get("COHERENT_CACHE_COMPILE") == "1"
