"""The documentation: its code runs, its links lead somewhere, its reference is complete.

A fenced block marked ``python`` is run.  Consecutive ones make one program; further words say more:

==================  ===============================================================================
``python``          goes on with the program of the blocks before
``python new``      begins a new program, in a directory of its own
``python pytest``   the program it belongs to is run by pytest
``python notest``   a fragment: it is not run, but it has to be Python
==================  ===============================================================================
"""

from __future__ import annotations

import ast
import dataclasses
import importlib.util
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from sqlalchemy import MetaData, create_engine

import coherent_cache
from coherent_cache import CacheManager, ConnectionSource, Statistics, View, add_tables, tier
from coherent_cache.ledger import LedgerStatus
from coherent_cache.tier import envelope, serializers

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
REFERENCE = ROOT / "docs" / "reference.md"

_FENCE = re.compile(r"\s*(`{3,}|~{3,})\s*(.*)$")
_LINK = re.compile(r"\[[^\]]*\]\(<?([^)\s>]+)>?\)")
_HEADING = re.compile(r"#{1,6}\s+(.*?)\s*#*$")
_CODE_SPAN = re.compile(r"(`+)(.+?)\1", re.DOTALL)
_MACHINE_PATH = re.compile(r"(?<![\w./:])(?:/(?:home|root|work|tmp|Users|mnt)/|[A-Z]:\\)")
_PACKAGES_THAT_MAY_BE_MISSING = {
    "flask",
    "flask_sqlalchemy",
    "aiosqlite",
    "alembic",
    "greenlet",
    "dogpile",
}


class Block(NamedTuple):
    """A fenced block: the words after the fence, the number of its first line, its lines."""

    words: tuple[str, ...]
    first: int
    lines: list[str]


class Program(NamedTuple):
    """Blocks that run together."""

    path: Path
    blocks: list[Block]

    def __str__(self) -> str:
        return f"{self.path.name}:{self.blocks[0].first}"


def split(path: Path) -> tuple[list[Block], list[str]]:
    """The fenced blocks of a document, and its other lines."""
    blocks: list[Block] = []
    prose: list[str] = []
    fence = ""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        match = _FENCE.match(line)
        if fence:
            if match and match.group(1).startswith(fence) and not match.group(2):
                fence = ""
            else:
                blocks[-1].lines.append(line)
        elif match:
            fence = match.group(1)
            blocks.append(Block(tuple(match.group(2).split()), number + 1, []))
        else:
            prose.append(line)
    return blocks, prose


def programs() -> list[Program]:
    found: list[Program] = []
    for path in DOCUMENTS[1:]:
        current: Program | None = None
        for block in split(path)[0]:
            if block.words[:1] != ("python",) or "notest" in block.words:
                continue
            if current is None or "new" in block.words:
                current = Program(path, [])
                found.append(current)
            current.blocks.append(block)
    return found


@pytest.mark.parametrize("program", programs(), ids=str)
def test_code_runs(program: Program, tmp_path: Path) -> None:
    for name in _imports(program) & _PACKAGES_THAT_MAY_BE_MISSING:
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed")
    lines: list[str] = []
    for block in program.blocks:
        # An error is told with the line of the document.
        lines += [""] * (block.first - 1 - len(lines)) + block.lines
    script = tmp_path / f"{program.path.stem}_{program.blocks[0].first}.py"
    script.write_text("\n".join(lines) + "\n", encoding="utf-8")
    by_pytest = any("pytest" in block.words for block in program.blocks)
    runner = ["-m", "pytest", "-q", "-p", "no:cacheprovider"] if by_pytest else ["-W", "error"]
    ran = subprocess.run(
        [sys.executable, *runner, script.name],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, f"{program.path.name}:\n{ran.stdout}{ran.stderr}"


def _imports(program: Program) -> set[str]:
    found = set()
    for block in program.blocks:
        for node in ast.walk(ast.parse("\n".join(block.lines))):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_python_block_is_python(path: Path) -> None:
    for block in split(path)[0]:
        if block.words[:1] == ("python",):
            assert set(block.words[1:]) <= {"new", "pytest", "notest"}, block.words
            ast.parse("\n" * (block.first - 1) + "\n".join(block.lines), filename=path.name)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    broken = []
    for target in _LINK.findall(_CODE_SPAN.sub("", "\n".join(split(path)[1]))):
        if re.match(r"[a-z][a-z0-9+.-]*:", target):
            continue  # not ours
        file, _, heading = target.partition("#")
        found = (path.parent / file).resolve() if file else path
        if not found.exists() or (heading and heading not in _anchors(found)):
            broken.append(target)
    assert not broken


def _anchors(path: Path) -> set[str]:
    """The names by which GitHub links to the headings of a document."""
    found: set[str] = set()
    for line in split(path)[1]:
        match = _HEADING.match(line)
        if match:
            text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", match.group(1)).lower()
            name = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
            count = 0
            unique = name
            while unique in found:
                count += 1
                unique = f"{name}-{count}"
            found.add(unique)
    return found


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_no_path_of_a_machine(path: Path) -> None:
    assert not _MACHINE_PATH.findall(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_what_is_said_of_managers_exists(path: Path) -> None:
    """``manager.something`` in any document is an attribute of a `CacheManager`."""
    manager = CacheManager(create_engine("sqlite://"))
    named = re.findall(r"\bmanager\.([a-z]\w*)", path.read_text(encoding="utf-8"))
    assert {name for name in named if not hasattr(manager, name)} <= {"py"}


# The reference


def _code_of(path: Path) -> list[str]:
    """The texts of the code spans of a document."""
    return [span for _, span in _CODE_SPAN.findall("\n".join(split(path)[1]))]


def _headings() -> list[str]:
    """The signatures that head the sections of the reference."""
    found = [_HEADING.match(line) for line in split(REFERENCE)[1]]
    return [code for match in found if match for _, code in _CODE_SPAN.findall(match.group(1))]


def _members(kind: type) -> list[str]:
    return [name for name in vars(kind) if not name.startswith("_")]


def _names() -> list[tuple[str, str]]:
    """All that the reference has to name, with where it belongs."""
    tables = add_tables(MetaData())
    manager = CacheManager(create_engine("sqlite://"))
    groups: dict[str, Any] = {
        "coherent_cache": coherent_cache.__all__,
        "CacheManager": sorted({*_members(CacheManager), *_members_of(manager)}),
        "Statistics": [field.name for field in dataclasses.fields(Statistics)],
        "LedgerStatus": [field.name for field in dataclasses.fields(LedgerStatus)],
        "View": [*(n for n in View.__slots__ if n[0] != "_"), *_members(View)],
        "ConnectionSource": _members(ConnectionSource),
        "tier": tier.__all__,
        "Tier": [*inspect.signature(tier.Tier).parameters, *_members(tier.Tier)],
        "TierStatistics": [field.name for field in dataclasses.fields(tier.TierStatistics)],
        "LayerStatistics": [field.name for field in dataclasses.fields(tier.LayerStatistics)],
        "serializers": serializers.__all__,
        "envelope": ["REASONS", "Opened", *inspect.signature(envelope.Envelope).parameters],
        "cache": [column.name for column in tables.log.columns],
        "cache_lane": [column.name for column in tables.lanes.columns],
    }
    for name in coherent_cache.__all__:
        public = getattr(coherent_cache, name)
        if isinstance(public, type) and issubclass(public, coherent_cache.CachedPropertyBase):
            groups[name] = _members(public)
        elif isinstance(public, type) and issubclass(public, Exception):
            # The data it carries are parameters of the same name.
            parameters = inspect.signature(public.__init__).parameters.values()
            groups[name] = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]  # its data
    return [(owner, name) for owner, names in groups.items() for name in names]


def _members_of(instance: object) -> list[str]:
    return [name for name in vars(instance) if not name.startswith("_")]


def test_reference_names_everything() -> None:
    named = {word for code in _code_of(REFERENCE) for word in re.findall(r"\w+", code)}
    assert not [f"{owner}.{name}" for owner, name in _names() if name not in named]


def test_reference_has_every_reason_of_a_bad_payload() -> None:
    assert set(envelope.REASONS) <= set(_code_of(REFERENCE))


def test_reference_has_every_parameter() -> None:
    """A method's heading names its parameters, as its signature does and in that order."""
    headings = {heading.partition("(")[0]: heading for heading in _headings() if "(" in heading}
    wrong = []
    for name, method in inspect.getmembers(CacheManager, inspect.isfunction):
        if name.startswith("_"):
            continue
        names = [p for p in inspect.signature(method).parameters if p != "self"]
        heading = headings.get(f"manager.{name}")
        if heading is None:
            wrong.append(f"{name}: has no heading")
            continue
        told = re.findall(r"(\w+)(?:=[^,)]*)?[,)]", heading.partition("(")[2])
        if told != names:
            wrong.append(f"{heading}: takes {names}")
    assert not wrong


def test_reference_has_the_options_of_a_manager() -> None:
    """A row for each, with its default."""
    rows = {
        cells[1].strip(): cells[2].strip().replace("_", "")
        for cells in (line.split("|") for line in split(REFERENCE)[1])
        if len(cells) > 3
    }
    for parameter in inspect.signature(CacheManager).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY:
            default = repr(parameter.default).replace("'", '"').replace("_", "")
            assert rows[f"`{parameter.name}`"] == f"`{default}`"
