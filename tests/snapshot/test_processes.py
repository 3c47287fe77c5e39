"""Real processes that share a file: at once, killed, forked, and at their end."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from coherent_cache.snapshot import Snapshot

from ..children import fork, kill_self
from ..workers import Worker


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "values"


def restored(worker: Worker) -> int:
    worker.cache_manager.get("any", lambda: 1)
    return worker.cache_manager.statistics.restored


@pytest.mark.long
@pytest.mark.thorough
@pytest.mark.on("sqlite-wal", "postgresql")
def test_saving_and_starting_at_once(worker: Worker, path: Path) -> None:
    worker.cache_manager.get("any", lambda: 1)  # the parent's connections are open

    def child(name: int) -> Any:
        def run() -> list[int]:
            for turn in range(3):
                mine = Worker(worker.database, snapshot=Snapshot(path, every=None))
                for number in range(5):
                    mine.cache_manager.get(f"{name} {turn} {number}", lambda: number)  # noqa: B023
                mine.cache_manager.close()
            last = Worker(worker.database, snapshot=path).cache_manager
            return [last.get(f"{name} {t} {n}", lambda: -1) for t in range(3) for n in range(5)]

        return run

    children = [fork(child(name)) for name in range(4)]
    assert [each.join() for each in children] == [[0, 1, 2, 3, 4] * 3] * 4
    assert restored(Worker(worker.database, snapshot=path)) == 60


@pytest.mark.on("sqlite-wal")
def test_killed_while_it_saves(worker: Worker, path: Path, monkeypatch: Any) -> None:
    """The new file is written and not renamed yet: the old one stays, and nothing is in the way."""
    first = Worker(worker.database, snapshot=path)
    first.cache_manager.get("k", lambda: 1)
    first.cache_manager.close()
    before = path.read_bytes()

    def child() -> None:
        monkeypatch.setattr(os, "replace", lambda *_: kill_self())
        mine = Worker(worker.database, snapshot=path)
        mine.cache_manager.get("l", lambda: 1)
        mine.cache_manager.close()

    fork(child).wait_for_kill()
    assert path.read_bytes() == before
    assert path.with_name("values.new").exists()
    second = Worker(worker.database, snapshot=path)
    assert second.cache_manager.get("k", lambda: 2) == 1
    second.cache_manager.get("m", lambda: 1)
    second.cache_manager.close()
    assert restored(Worker(worker.database, snapshot=path)) == 2
    assert not path.with_name("values.new").exists()


@pytest.mark.on("sqlite-wal", "postgresql", "mariadb")
def test_a_forked_child(worker: Worker, path: Path) -> None:
    """A server that loads the application, reads, and forks: each child takes the values back for
    itself, and saves what it has."""
    first = Worker(worker.database, snapshot=path)
    first.cache_manager.get("k", lambda: 1)
    first.cache_manager.close()
    parent = Worker(worker.database, snapshot=path)
    assert parent.cache_manager.get("k", lambda: 2) == 1

    def child() -> Any:
        found = parent.cache_manager.get("k", lambda: 3), parent.cache_manager.get("l", lambda: 3)
        parent.cache_manager.close()
        statistics = parent.cache_manager.statistics
        return found, statistics.restored, statistics.saved

    keeper = parent.cache_manager.core.keeper
    assert keeper is not None
    with keeper._lock:  # as a thread of the parent may have it
        forked = fork(child)
    assert forked.join() == ((1, 3), 1, 2)
    assert parent.cache_manager.statistics.saved == 0
    assert restored(Worker(worker.database, snapshot=path)) == 2
    parent.cache_manager.close()
    assert restored(Worker(worker.database, snapshot=path)) == 2


STORY = """
    import sys
    from sqlalchemy import create_engine
    from coherent_cache import CacheManager
    manager = CacheManager(create_engine(sys.argv[1]), snapshot=sys.argv[2])
    print(manager.get("k", lambda: int(sys.argv[3])))
    if sys.argv[3] == "3":
        manager.engine.dispose()
        import os
        os.rename(sys.argv[1][10:], sys.argv[1][10:] + ".away")
        manager.core.access.close()
    if sys.argv[3] == "4":
        raise SystemExit("an error of its own")
"""


@pytest.mark.long
@pytest.mark.thorough
@pytest.mark.on("sqlite-journal")
def test_the_end_of_the_interpreter(worker: Worker, path: Path) -> None:
    """With the database gone it ends as it would have."""

    def run(answer: int) -> tuple[str, int, str]:
        command = [sys.executable, "-W", "error", "-c", textwrap.dedent(STORY)]
        url = worker.database.url.render_as_string()
        ran = subprocess.run(
            [*command, url, str(path), str(answer)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            cwd=Path(__file__).parents[2],
        )
        return ran.stdout.strip(), ran.returncode, ran.stderr

    worker.cache_manager.close()
    assert run(1) == ("1", 0, "")
    assert run(4)[:2] == ("1", 1)
    before = path.read_bytes()
    answer, code, said = run(3)
    assert (answer, code) == ("1", 0)
    assert "Traceback" not in said
    assert "was not saved" in said
    assert path.read_bytes() == before
