"""Fixtures: one server of each kind for a run, and regions on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from dogpile.cache import CacheRegion, make_region

from coherent_cache.tier import backends

from .servers import Server, server


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Server]]:
    """The run's own server of a kind, started when it is first asked for."""
    made: dict[str, Server] = {}
    with ExitStack() as stack:

        def get(kind: str) -> Server:
            if kind not in made:
                directory = tmp_path_factory.mktemp(kind)
                made[kind] = stack.enter_context(server(kind, directory))
            return made[kind]

        yield get


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Callable[[str], Server]]:
    """A server of the test's own."""
    with ExitStack() as stack:
        yield lambda kind: stack.enter_context(server(kind, tmp_path))


@pytest.fixture(autouse=True)
def patience(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine an answer may be late: only who uses `impatient` has the real time-outs."""
    if "impatient" not in request.fixturenames:
        monkeypatch.setattr(backends, "TIMEOUT", 10.0)


@pytest.fixture
def impatient() -> None:
    """The time-outs that users have."""


_made: list[CacheRegion] = []


@pytest.fixture(autouse=True)
def close_clients() -> Iterator[None]:
    """Close what the tests opened: the clients' own ends come with warnings, which are errors."""
    yield
    for region in _made:
        backend: Any = region.actual_backend
        if hasattr(backend, "reader_client"):
            backend.reader_client.close()
            backend.writer_client.close()
        else:
            backend.client.close()
    _made.clear()


def on_server(kind: str, port: int, **arguments: Any) -> CacheRegion:
    """A region on a server."""
    if kind == "memcached":
        name, place = "pymemcache", {"url": f"127.0.0.1:{port}"}
    else:  # the client of Valkey, too, is tried on Redis
        name, place = kind, {"host": "127.0.0.1", "port": port}  # type: ignore[dict-item]
    region = make_region().configure(f"dogpile.cache.{name}", arguments={**place, **arguments})
    _made.append(region)
    return region


@pytest.fixture
def region(
    request: pytest.FixtureRequest, tmp_path: Path, servers: Callable[[str], Server]
) -> CacheRegion:
    """A region of the kind that the test is run for, with nothing in it."""
    kind: str = request.param
    if kind == "memory":
        return make_region().configure("dogpile.cache.memory")
    if kind == "dbm":
        return make_region().configure(
            "dogpile.cache.dbm", arguments={"filename": str(tmp_path / "cache.dbm")}
        )
    if kind == "valkey":
        pytest.importorskip("valkey")
    found = servers("redis" if kind == "valkey" else kind)
    found.flush()
    return on_server(kind, found.port)
