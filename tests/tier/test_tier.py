"""A `Tier` under managers: the storage, the envelope and the protocol together."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import pytest
from dogpile.cache import CacheRegion, make_region
from sqlalchemy import create_engine

from coherent_cache import CacheManager, ConfigurationError
from coherent_cache.tier import PickleSerializer, Tier

from ..workers import Worker

KEY = b"a secret of sixteen bytes or more"

everywhere = pytest.mark.parametrize(
    "region", ["memory", "dbm", "redis", "valkey", "memcached"], indirect=True
)
one_database = pytest.mark.on("sqlite-wal")


@everywhere
@one_database
def test_workers_share_values(worker: Worker, region: CacheRegion) -> None:
    tiers = [Tier(region, keys=[KEY]) for _ in range(2)]
    one, two = (Worker(worker.database, tier=tier) for tier in tiers)
    for text in ("first", "second", "x" * 5_000):
        one.write("a", text)
        assert one.read("a") == two.read("a") == text
    assert one.wiki.names == two.wiki.names == {"a"}
    assert two.cache_manager.statistics.loads == 0
    assert two.cache_manager.statistics.tier_hits == 4
    assert (tiers[0].statistics.put, tiers[1].statistics.found) == (4, 4)
    for tier in tiers:
        tier.close()


@one_database
@pytest.mark.parametrize("region", ["memory"], indirect=True)
def test_regions_are_a_tier(worker: Worker, region: CacheRegion) -> None:
    far = make_region().configure("dogpile.cache.memory")
    one = Worker(worker.database, tier=[region, far])
    two = Worker(worker.database, tier=far)
    one.write("a", "first")
    assert one.read("a") == two.read("a") == "first"
    assert two.cache_manager.statistics.tier_hits == 1


@one_database
@pytest.mark.parametrize("region", ["memory"], indirect=True)
def test_what_cannot_leave_the_process(
    worker: Worker, region: CacheRegion, caplog: pytest.LogCaptureFixture
) -> None:
    tier = Tier(region, max_bytes=2_000)
    manager = CacheManager(worker.engine, tier=tier)
    thing = object()
    for _ in range(2):
        assert manager.get("thing", lambda: thing) is thing
        assert len(manager.get("large", lambda: bytes(range(256)) * 20)) == 5_120
        manager.evict()
    warnings = [record.getMessage() for record in caplog.records]
    assert len(warnings) == 2
    assert "'thing' stays in this process" in warnings[0]
    statistics = tier.statistics
    assert (statistics.not_serializable, statistics.too_large, statistics.put) == (2, 2, 0)


@one_database
@pytest.mark.parametrize("region", ["memory"], indirect=True)
def test_others_and_older_releases_are_not_understood(worker: Worker, region: CacheRegion) -> None:
    for number, options in enumerate(
        [{}, {"version": "2"}, {"application": "other"}, {"keys": [KEY]}, {"keys": [KEY[::-1]]}]
    ):
        manager = CacheManager(worker.engine, tier=Tier(region, **options))
        assert manager.get("k", lambda number=number: number) == number  # type: ignore[misc]
        assert manager.statistics.loads == 1


@one_database
@pytest.mark.parametrize("region", ["memory"], indirect=True)
def test_keys_are_rotated(worker: Worker, region: CacheRegion) -> None:
    def loads(*keys: bytes) -> int:
        manager = CacheManager(worker.engine, tier=Tier(region, keys=keys))
        assert manager.get("k", lambda: 1) == 1
        return manager.statistics.loads

    old, new = KEY, KEY[::-1]
    assert [loads(old), loads(old), loads(new, old), loads(new)] == [1, 0, 0, 1]


@one_database
@pytest.mark.parametrize("region", ["memory"], indirect=True)
def test_tampered_payloads_are_misses(worker: Worker, region: CacheRegion) -> None:
    tier = Tier(region, keys=[KEY], serializer=PickleSerializer())
    CacheManager(worker.engine, tier=tier).get("k", lambda: {"a": 1})
    CacheManager(worker.engine, tier=tier).get("other", lambda: {"a": 2})
    stored: dict[str, Any] = region.backend._cache  # type: ignore[attr-defined]
    (one, two), payloads = stored, list(stored.values())
    stored[one], stored[two] = payloads[1], payloads[0][:-1] + b"\0"
    manager = CacheManager(worker.engine, tier=tier)
    assert manager.get("k", lambda: "computed") == "computed"
    assert manager.get("other", lambda: "computed") == "computed"
    assert tier.statistics.rejected == {"key": 1, "mac": 1}


def test_what_is_wrong_is_said() -> None:
    with pytest.raises(ConfigurationError, match="has a layer"):
        Tier()
    with pytest.raises(ConfigurationError, match="keys="):
        Tier(make_region().configure("dogpile.cache.memory"), serializer=PickleSerializer())
    with pytest.raises(ConfigurationError, match="compression_level="):
        Tier(make_region().configure("dogpile.cache.memory"), compression_level=0)
    with pytest.raises(ConfigurationError, match="dogpile"):
        CacheManager(create_engine("sqlite://"), tier=object())


@one_database
@pytest.mark.parametrize("kind", ["redis", "valkey", "memcached", "file"])
def test_named_by_a_url(worker: Worker, servers: Any, tmp_path: Path, kind: str) -> None:
    if kind == "file":
        url = f"file://{tmp_path}/a%20file.dbm"
    else:
        url = f"{kind}://127.0.0.1:{servers('redis' if kind == 'valkey' else kind).port}"
    one, two = (Worker(worker.database, tier=tier) for tier in (url, Tier(url)))
    one.write("a", kind)
    assert one.read("a") == two.read("a") == kind
    assert two.cache_manager.statistics.tier_hits == 1
    for each in (one, two):
        each.cache_manager._tier.close()  # type: ignore[union-attr]


@pytest.mark.parametrize("url", ["mysql://secret@host", "memcached://", "file:///", "redis"])
def test_urls_that_are_none(url: str) -> None:
    with pytest.raises(ConfigurationError, match="give redis://") as error:
        Tier(url)
    assert "secret" not in str(error.value)


@one_database
def test_a_server_that_goes_and_comes_back(
    worker: Worker, own_server: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from .conftest import on_server

    server = own_server("redis")
    tier = Tier(on_server("redis", server.port))
    one, two = Worker(worker.database, tier=tier), Worker(worker.database, tier=tier)
    one.write("a", "first")
    assert one.read("a") == two.read("a") == "first"
    server.kill()
    with caplog.at_level(logging.INFO, logger="coherent_cache"):
        for number in range(10):
            one.write("a", str(number))
            assert one.read("a") == two.read("a") == str(number)
    assert two.cache_manager.statistics.loads == 10
    assert len([r for r in caplog.records if "does not answer" in r.getMessage()]) == 1


def test_without_dogpile_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "coherent_cache.tier", None)
    with pytest.raises(ConfigurationError, match=r"coherent-cache\[tier\]"):
        CacheManager(create_engine("sqlite://"), tier="redis://localhost")
