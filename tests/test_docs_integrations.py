"""The pages about the web, the migrations and the command line do what they say."""

from __future__ import annotations

import asyncio
import inspect
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from flask import Flask
from sqlalchemy import create_engine

from coherent_cache import CacheManager
from coherent_cache import flask as extension
from coherent_cache.cli import make_group
from coherent_cache.wsgi import CacheMiddleware

from .web.server import get

DOCS = Path(__file__).resolve().parents[1] / "docs"


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (DOCS / page).read_text(), re.M | re.S)


def run(page: str) -> dict[str, Any]:
    """Everything that a page says in Python, in one module."""
    module: dict[str, Any] = {"__name__": "page_of_the_docs"}
    for block in blocks(page, "python"):
        exec(compile(block, page, "exec", dont_inherit=True), module)
    return module


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COHERENT_CACHE_URL", raising=False)
    return tmp_path


def test_the_web_page(directory: Path) -> None:
    module = run("web.md")
    module["test_a_page_is_added"](directory)
    assert isinstance(module["application"], CacheMiddleware)
    started: list[str] = []
    body = module["application"]({}, lambda status, headers: started.append(status))
    assert (list(body), started) == ([b"Hello"], ["200 OK"])
    assert asyncio.run(get(module["app"])) == b'["Hello"]'
    module["manager"].close()
    module["manager"].engine.dispose()


def test_the_migrations_page() -> None:
    module = run("migrations.md")
    assert set(module["target_metadata"].tables) == {"cache", "cache_lane"}
    assert callable(module["upgrade"])


def test_the_command_line_page(monkeypatch: pytest.MonkeyPatch) -> None:
    commands = 0
    for block in blocks("cli.md", "console"):
        for said in block.removeprefix("$ ").split("\n$ "):
            line, _, expected = said.partition("\n")
            if line.startswith("export "):
                name, _, value = line.removeprefix("export ").partition("=")
                monkeypatch.setenv(name, value)
                continue
            name, *arguments = shlex.split(line)
            assert name == "coherent-cache"
            result = CliRunner().invoke(make_group(), arguments)
            assert result.output.strip() == expected.strip()
            commands += 1
    assert commands == 6


def test_every_command_and_setting_is_named() -> None:
    cli, web = (DOCS / "cli.md").read_text(), (DOCS / "web.md").read_text()
    group = make_group()
    for name in group.commands:  # type: ignore[attr-defined]
        assert f"| `{name}" in cli
    for option in (o for c in (group, *group.commands.values()) for o in c.params):
        if option.opts[0].startswith("--") and option.opts[0] not in ("--version", "--help"):
            assert option.opts[0] in cli, option.opts
    documented = set(re.findall(r"COHERENT_CACHE_[A-Z_]+", web))
    assert documented == set(re.findall(r"COHERENT_CACHE_[A-Z_]+", extension.__doc__ or ""))
    read = set(re.findall(r"COHERENT_CACHE_[A-Z]\w+", inspect.getsource(extension)))
    read |= {f"COHERENT_CACHE_{name.upper()}" for name in extension._OPTIONS}
    assert documented == read


def test_the_settings_are_those_of_the_manager() -> None:
    parameters = inspect.signature(CacheManager).parameters
    assert set(extension._OPTIONS) <= set(parameters)
    engine = create_engine("sqlite:///x.db")
    own = extension.CoherentCache(Flask("x"), engine=engine, max_entries=2)
    assert own.manager.core.store._max_entries == 2
    engine.dispose()
