"""One suite for every backend, and what is refused."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from dogpile.cache import CacheRegion, make_region
from dogpile.cache.api import CacheBackend
from dogpile.cache.backends import memcached
from dogpile.cache.backends.redis import RedisClusterBackend
from dogpile.cache.proxy import ProxyBackend
from dogpile.cache.util import sha1_mangle_key

from coherent_cache import ConfigurationError
from coherent_cache.tier.backends import TIMEOUT, adopt
from coherent_cache.tier.chain import Layer

from .conftest import on_server
from .servers import Server

KINDS = ["memory", "dbm", "redis", "valkey", "memcached"]
every_backend = pytest.mark.parametrize("region", KINDS, indirect=True)

A, B, C = "a" * 64, "b:1", "c!#~"


@every_backend
def test_bytes_in_and_out(region: CacheRegion) -> None:
    layer = Layer(region)
    values = {A: bytes(range(256)), B: b"", C: os.urandom(100_000)}
    layer.put(values)
    assert layer.get([C, "nothing", A, B]) == values
    layer.put({A: b"new"})
    assert layer.get([A]) == {A: b"new"}
    assert (layer.statistics().hits, layer.statistics().misses) == (4, 1)
    assert (layer.statistics().puts, layer.statistics().errors) == (4, 0)


@every_backend
def test_taken_as_a_backend(region: CacheRegion) -> None:
    layer = Layer(region.backend)
    layer.put({A: b"1"})
    assert layer.get([A]) == {A: b"1"}


@every_backend
def test_keys_are_mangled_as_the_region_says(region: CacheRegion) -> None:
    region.key_mangler = lambda key: sha1_mangle_key(key.encode())
    Layer(region).put({A: b"1"})
    assert Layer(region).get([A]) == {A: b"1"}
    region.key_mangler = None
    assert Layer(region).get([A]) == {}


class Reversing(ProxyBackend):
    def get_serialized_multi(self, keys: Any) -> Any:
        found = self.proxied.get_serialized_multi(keys)
        return [each[::-1] if isinstance(each, bytes) else each for each in found]


@every_backend
def test_goes_through_proxies(region: CacheRegion) -> None:
    region.wrap(Reversing)
    layer = Layer(region)
    layer.put({A: b"123"})
    assert layer.get([A, B]) == {A: b"321"}


class Hostile:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@every_backend
def test_nothing_is_unpickled(region: CacheRegion, tmp_path: Path) -> None:
    """What a region's own `get` would run is bytes like others."""
    mark = tmp_path / "unpickled"
    pickled = pickle.dumps(Hostile(mark))
    layer = Layer(region)
    layer.put({A: pickled, B: pickle.dumps((Hostile(mark), {"ct": 1.0, "v": 2}))})
    assert layer.get([A, B]).keys() == {A, B}
    assert not mark.exists()
    pickle.loads(pickled)
    assert mark.exists()


@pytest.mark.parametrize("flags", [1, 2, 4, 8, 9, 16, 17, 32, 65535])
def test_flags_of_other_clients_mean_nothing(
    servers: Callable[[str], Server], tmp_path: Path, flags: int
) -> None:
    """1 means pickle to each of pymemcache, pylibmc, python-memcached and bmemcached."""
    from pymemcache.client.base import Client

    port = servers("memcached").port
    mark = tmp_path / "unpickled"
    key = f"hostile{flags}"
    with closing(Client(("127.0.0.1", port))) as other:
        other.set(key, pickle.dumps(Hostile(mark)), flags=flags, noreply=False)
    layer = Layer(on_server("memcached", port))
    assert layer.get([key, "nothing"]) == {}
    assert layer.statistics().misses == 2
    assert not mark.exists()
    if flags == 1:  # it would have been
        on_server("memcached", port).get(key)
        assert mark.exists()


def test_a_client_made_otherwise_does_not_unpickle(
    servers: Callable[[str], Server], tmp_path: Path
) -> None:
    from pymemcache.client.base import Client
    from pymemcache.client.hash import HashClient
    from pymemcache.serde import pickle_serde

    class Own(memcached.PyMemcacheBackend):
        def _create_client(self) -> Any:
            return HashClient(self.url, serde=pickle_serde)

    port = servers("memcached").port
    mark = tmp_path / "unpickled"
    with closing(Client(("127.0.0.1", port))) as other:
        other.set("own", pickle.dumps(Hostile(mark)), flags=1, noreply=False)
    backend = Own({"url": f"127.0.0.1:{port}"})
    assert Layer(backend).get(["own"]) == {}
    assert not mark.exists()
    backend.client.close()


# What a backend must not do to us


class Odd(CacheBackend):
    """Answers by what it was given."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def get_serialized_multi(self, keys: Any) -> Any:
        return self.answer


@pytest.mark.parametrize("answer", ["text", None, 7, bytearray(b"1"), ("value", {})], ids=repr)
def test_what_is_not_bytes_is_an_error(answer: Any) -> None:
    region = make_region().configure("dogpile.cache.memory")
    region.backend._cache[A] = answer
    layer = Layer(region)
    assert layer.get([A]) == {}
    assert layer.statistics().hits == 0


def test_too_few_answers_are_an_error() -> None:
    class Short(ProxyBackend):
        def get_serialized_multi(self, keys: Any) -> Any:
            return [b"1"]

    region = make_region().configure("dogpile.cache.memory", wrap=[Short])
    layer = Layer(region)
    assert layer.get([A, B]) == {}
    assert layer.statistics().errors == 1


# What is refused


def made(kind: type[Any]) -> Any:
    """An instance, without its client's package."""
    return kind.__new__(kind)


@pytest.mark.parametrize(
    ("source", "told"),
    [
        (lambda: made(memcached.PylibmcBackend), "dogpile.cache.pymemcache"),
        (lambda: made(memcached.MemcachedBackend), "dogpile.cache.pymemcache"),
        (lambda: made(memcached.BMemcachedBackend), "dogpile.cache.pymemcache"),
        (lambda: made(RedisClusterBackend), "dogpile.cache.redis"),
        (lambda: Odd(None), "BytesBackend"),
        (lambda: make_region(), "configure()"),
        (lambda: "redis://localhost", "make_region"),
        (lambda: on_server("redis", 1, connection_kwargs={"decode_responses": True}), "decode_"),
        (lambda: on_server("memcached", 1, serde=object()), "serde"),
    ],
)
def test_refused(source: Callable[[], Any], told: str) -> None:
    with pytest.raises(ConfigurationError, match=told.replace("(", r"\(").replace(")", r"\)")):
        adopt(source())


def test_a_region_in_use_is_refused(servers: Callable[[str], Server]) -> None:
    region = on_server("memcached", servers("memcached").port)
    region.set(A, {"pickled": 1})
    with pytest.raises(ConfigurationError, match="in use"):
        adopt(region)


def test_a_file_without_its_lock_is_refused(tmp_path: Path) -> None:
    arguments = {"filename": str(tmp_path / "cache.dbm"), "rw_lockfile": False}
    with pytest.raises(ConfigurationError, match="rw_lockfile"):
        adopt(make_region().configure("dogpile.cache.dbm", arguments=arguments))


@pytest.mark.usefixtures("impatient")
def test_a_pool_without_time_out_is_refused() -> None:
    import redis

    pool = redis.ConnectionPool(port=1)
    pool.connection_kwargs.pop("socket_timeout", None)
    with pytest.raises(ConfigurationError, match=r"socket_timeout=0\.25"):
        adopt(on_server("redis", 1, connection_pool=pool))
    pool = redis.ConnectionPool(port=1, socket_timeout=0.5)
    assert adopt(on_server("redis", 1, connection_pool=pool)).timeout == 0.5


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("kind", ["redis", "valkey"])
def test_time_outs_of_redis(kind: str) -> None:
    pytest.importorskip(kind)

    def options(**arguments: Any) -> dict[str, Any]:
        region = on_server(kind, 1, **arguments)
        adopt(region)
        found: dict[str, Any] = region.backend.reader_client.connection_pool.connection_kwargs
        return found

    assert options()["socket_timeout"] == options()["socket_connect_timeout"] == TIMEOUT
    assert options()["retry"].get_retries() == 0 if kind == "redis" else True
    assert options(socket_timeout=1)["socket_timeout"] == 1
    assert options(connection_kwargs={"socket_timeout": 2})["socket_timeout"] == 2
    given = options(url=f"{kind}://127.0.0.1:1/0?socket_timeout=3")
    assert (given["socket_timeout"], given["socket_connect_timeout"]) == (3, TIMEOUT)


@pytest.mark.usefixtures("impatient")
def test_time_outs_of_sentinels() -> None:
    region = make_region().configure(
        "dogpile.cache.redis_sentinel", arguments={"sentinels": [["127.0.0.1", 1]]}
    )
    assert adopt(region).timeout == TIMEOUT
    backend = region.backend
    sentinels = backend.writer_client.connection_pool.sentinel_manager.sentinels
    for client in [backend.writer_client, backend.reader_client, *sentinels]:
        assert client.connection_pool.connection_kwargs["socket_timeout"] == TIMEOUT
    assert backend.lock_timeout == 30


@pytest.mark.usefixtures("impatient")
def test_time_outs_of_memcached(servers: Callable[[str], Server]) -> None:
    region = on_server("memcached", servers("memcached").port)
    layer = Layer(region)
    layer.get([A])
    (client,) = region.backend.client.clients.values()
    assert (client.timeout, client.connect_timeout) == (TIMEOUT, TIMEOUT)
    assert client.sock.gettimeout() == TIMEOUT


def test_a_name_has_no_password() -> None:
    url = "redis://somebody:secret@127.0.0.1:1/0"
    assert adopt(on_server("redis", 1, url=url)).name == "Redis 127.0.0.1:1"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of redis-py, for what dogpile calls
@pytest.mark.parametrize(
    ("kind", "option"),
    [("redis", "redis_expiration_time"), ("memcached", "memcached_expire_time")],
)
def test_expiry_is_passed_on(kind: str, option: str, servers: Callable[[str], Server]) -> None:
    found = servers(kind)
    layer = Layer(on_server(kind, found.port, **{option: 1000}))
    layer.put({"expires": b"1"})
    assert layer.statistics().puts == 1
    if kind == "redis":
        answer = found.say("TTL expires")
        assert 990 < int(answer[1:]) <= 1000
    else:
        answer = found.say("mg expires t")
        assert 990 < int(answer.split()[1][1:]) <= 1000


# The file


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "truncated": lambda data: data[: len(data) // 2],
    "empty": lambda data: b"",
    "foreign": lambda data: b"SQLite format 3\0" + b"not what it was " * 500,
    "zeros": lambda data: data[:16] + bytes(len(data)),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("region", ["dbm"], indirect=True)
def test_a_damaged_file_is_a_miss(region: CacheRegion, tmp_path: Path, damage: str) -> None:
    now = 0.0
    layer = Layer(region, clock=lambda: now)
    layer.put({f"k{number}": b"x" * 1000 for number in range(100)})
    for path in tmp_path.iterdir():
        if path.suffix != ".lock":
            path.write_bytes(DAMAGE[damage](path.read_bytes()))
    found = layer.get([f"k{number}" for number in range(100)])
    assert len(found) < 100
    layer.put({"k1": b"y"})
    layer.get(["k1"])
    for path in tmp_path.iterdir():  # what its owner is told to do
        if path.suffix != ".lock":
            path.unlink()
    for _ in range(2):  # the first call may find no file, and makes one
        now += 100
        layer.put({"k1": b"y"})
    assert layer.get(["k1"]) == {"k1": b"y"}


WRITER = """
import sys
from dogpile.cache import make_region
from coherent_cache.tier.chain import Layer
name, who = sys.argv[1:]
layer = Layer(make_region().configure("dogpile.cache.dbm", arguments={"filename": name}))
for number in range(40):
    layer.put({f"{who}:{number}": f"{who}{number}".encode() * 50})
print(layer.statistics().puts)
"""


@pytest.mark.long
@pytest.mark.thorough
@pytest.mark.parametrize("region", ["dbm"], indirect=True)
def test_two_processes_write_a_file(region: CacheRegion, tmp_path: Path) -> None:
    layer = Layer(region)
    running = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path / "cache.dbm"), who],
            stdout=subprocess.PIPE,
            text=True,
        )
        for who in "xy"
    ]
    stored = 0
    for process in running:
        stored += int(process.communicate(timeout=30)[0])
        assert process.returncode == 0
    wanted = {f"{who}:{n}": f"{who}{n}".encode() * 50 for who in "xy" for n in range(40)}
    found = layer.get(list(wanted))
    assert found.items() <= wanted.items()
    assert len(found) == stored > 0


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("region", ["dbm"], indirect=True)
def test_a_file_that_is_locked_is_not_waited_for(region: CacheRegion) -> None:
    layer = Layer(region)
    layer.put({A: b"1"})
    other = make_region().configure(
        "dogpile.cache.dbm", arguments={"filename": region.backend.filename}
    )
    with other.backend._rw_lock.write():  # by a process that hangs
        assert layer.get([A]) == {}
    assert layer.breaker.is_open
