"""Whatever stands on the command line: an answer or a clean error, and nothing is executed."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from coherent_cache.cli import make_group

fuzz = settings(
    max_examples=150,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)

hostile = st.sampled_from(
    ["'", '"', "';DROP TABLE cache;--", "%s", "%", ":x", "?", "\\", "\x00", "\x1b[31m", "\ud800",
     "--", "-", "--help", "$(touch x)", "`touch x`", "|touch x", "../../x", "", "{0.__class__}"]
)  # fmt: skip
#: As the operating system hands it over: no NUL, and bytes that are no text as lone surrogates.
word = st.one_of(hostile, st.text(st.characters(exclude_characters="\x00", exclude_categories=())))
command = st.sampled_from(["init", "status", "invalidate", "prune"])


def run(directory: Path, arguments: list[str]) -> int:
    before = set(directory.iterdir())
    result = CliRunner().invoke(make_group(), arguments)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise AssertionError(f"{arguments}: a traceback") from result.exception
    assert result.exit_code in (0, 1, 2), arguments
    assert "Traceback" not in result.output
    assert "\x1b" not in result.output
    assert set(directory.iterdir()) == before
    return result.exit_code


def prepared(directory: Path) -> str:
    url = f"sqlite:///{directory}/there.db"
    if not (directory / "there.db").exists():
        assert CliRunner().invoke(make_group(), ["--url", url, "init"]).exit_code == 0
    return url


@fuzz
@given(command, st.lists(word, max_size=3))
@example("invalidate", ["\x00", "\ud800", "';DROP TABLE cache;--"])
@example("prune", ["--keep", "9" * 30])
@example("prune", ["--keep", "1e3"])
def test_any_arguments(tmp_path: Path, name: str, arguments: list[str]) -> None:
    run(tmp_path, ["--url", prepared(tmp_path), name, *arguments])


@fuzz
@given(command, word)
def test_any_table(tmp_path: Path, name: str, table: str) -> None:
    rest = ["key"] if name == "invalidate" else []
    url = prepared(tmp_path)
    run(tmp_path, ["--url", url, f"--table={table}", name, *rest])
    assert run(tmp_path, ["--url", url, "status"]) == 0  # the other table is as it was


@fuzz
@given(command, word)
def test_any_schema(tmp_path: Path, name: str, schema: str) -> None:
    rest = ["key"] if name == "invalidate" else []
    url = prepared(tmp_path)
    run(tmp_path, ["--url", url, f"--schema={schema}", name, *rest])


@fuzz
@given(st.one_of(word, word.map(lambda w: f"sqlite://{w}"), word.map(lambda w: f"{w}://h/x")))
@example("sqlite://\x00")
@example("sqlite:///\x00.db")
@example("postgresql+psycopg://u@h:99999999/x")
@example("sqlite:///x?timeout=soon")
def test_any_url(tmp_path: Path, url: str) -> None:
    run(tmp_path, ["--url", url, "status"])
