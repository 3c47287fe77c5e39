"""Layers in a row, and servers on their bad days."""

from __future__ import annotations

import resource
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from dogpile.cache import CacheRegion, make_region
from dogpile.cache.proxy import ProxyBackend

from coherent_cache.tier.backends import TIMEOUT
from coherent_cache.tier.chain import Chain

from ..children import fork
from .conftest import on_server
from .servers import Server, nonsense

SERVERS = ["redis", "memcached"]
every_server = pytest.mark.parametrize("kind", SERVERS)
MARGIN = 1.0  # seconds: for a busy machine
AWAY = 100.0  # seconds: longer than any pause


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def memory() -> CacheRegion:
    return make_region().configure("dogpile.cache.memory")


def contents(chain: Chain, number: int) -> Any:
    backend: Any = chain.layers[number]._storage.backend
    return backend._cache


def timed(function: Callable[[], Any]) -> Any:
    """What *function* returns, which may take a time-out and no more."""
    began = time.monotonic()
    answer = function()
    assert time.monotonic() - began < TIMEOUT + MARGIN
    return answer


# Layers


def test_nearest_first_and_filled_from_further() -> None:
    chain = Chain([memory(), memory(), memory()])
    contents(chain, 0).update(a=b"near")
    contents(chain, 1).update(b=b"middle", a=b"not asked for")
    contents(chain, 2).update(c=b"far", b=b"not asked for")
    assert chain.get(["c", "b", "a", "d", "b"]) == [b"far", b"middle", b"near", None, b"middle"]
    assert contents(chain, 0) == {"a": b"near", "b": b"middle", "c": b"far"}
    assert contents(chain, 1) == {"a": b"not asked for", "b": b"middle", "c": b"far"}
    assert [(each.hits, each.misses) for each in chain.statistics()] == [(1, 3), (1, 2), (1, 1)]


def test_one_call_a_layer() -> None:
    calls: list[tuple[str, ...]] = []

    class Counting(ProxyBackend):
        def get_serialized_multi(self, keys: Any) -> Any:
            calls.append(tuple(keys))
            return self.proxied.get_serialized_multi(keys)

    counted = make_region().configure("dogpile.cache.memory", wrap=[Counting])
    chain = Chain([memory(), counted])
    chain.put({"a": b"1", "b": b"2"})
    contents(chain, 0).clear()
    assert chain.get(["a", "b", "x"]) == [b"1", b"2", None]
    assert chain.get(["a", "b"]) == [b"1", b"2"]
    assert chain.get([]) == []
    assert calls == [("a", "b", "x")]


def test_put_into_all() -> None:
    chain = Chain([memory(), memory()])
    chain.put({"a": b"1"})
    chain.put({})
    assert contents(chain, 0) == contents(chain, 1) == {"a": b"1"}
    assert [each.puts for each in chain.statistics()] == [1, 1]


class Raising(ProxyBackend):
    error: BaseException = OSError("away")

    def get_serialized_multi(self, keys: Any) -> Any:
        raise self.error

    def set_serialized_multi(self, mapping: Any) -> None:
        raise self.error


def test_a_layer_that_is_away_hides_nothing(clock: Clock) -> None:
    broken = make_region().configure("dogpile.cache.memory", wrap=[Raising])
    chain = Chain([memory(), broken, memory()], clock=clock)
    chain.put({"a": b"1"})
    contents(chain, 0).clear()
    assert chain.get(["a"]) == [b"1"]
    for _ in range(5):
        assert chain.get(["b"]) == [None]
    away = chain.statistics()[1]
    assert (away.errors, away.skipped, away.opened) == (3, 5, 1)
    assert away.last_error == "OSError('away')"


def test_interrupts_pass_and_count_for_nothing(clock: Clock) -> None:
    proxy = Raising()
    proxy.error = KeyboardInterrupt()
    chain = Chain([make_region().configure("dogpile.cache.memory", wrap=[proxy])], clock=clock)
    for _ in range(5):
        with pytest.raises(KeyboardInterrupt):
            chain.get(["a"])
    assert not chain.layers[0].breaker.is_open
    proxy.error = OSError("away")
    for _ in range(3):
        chain.put({"a": b"1"})
    clock.now += 1
    proxy.error = KeyboardInterrupt()
    for _ in range(2):  # it was the probe: the next call probes again
        with pytest.raises(KeyboardInterrupt):
            chain.get(["a"])


# Bad days


@pytest.fixture
def chain_on(
    own_server: Callable[[str], Server], clock: Clock
) -> Iterator[Callable[[str], tuple[Chain, Server]]]:
    """A chain with one layer, on a server of its own."""

    def make(kind: str) -> tuple[Chain, Server]:
        server = own_server(kind)
        return Chain([on_server(kind, server.port)], clock=clock), server

    return make


@every_server
def test_killed_and_restarted(kind: str, chain_on: Any, clock: Clock) -> None:
    chain, server = chain_on(kind)
    chain.put({"a": b"1"})
    server.kill()
    for _ in range(3):
        assert timed(lambda: chain.get(["a"])) == [None]
    assert timed(lambda: chain.put({"a": b"1"})) is None
    assert chain.statistics()[0].skipped == 1
    for _ in range(5):
        clock.now += AWAY
        assert chain.get(["a"]) == [None]  # the probe
    clock.now += AWAY
    server.start()
    chain.put({"a": b"2"})
    assert chain.get(["a"]) == [b"2"]
    assert chain.statistics()[0].opened == 1


def test_memcached_is_not_given_up(own_server: Callable[[str], Server], clock: Clock) -> None:
    """Its client would leave it out for a minute, whatever the breaker says."""
    server = own_server("memcached")
    region = on_server("memcached", server.port, hashclient_retry_attempts=0)
    chain = Chain([region], clock=clock)
    server.kill()
    for _ in range(5):
        assert chain.get(["a"]) == [None]
        clock.now += AWAY
    server.start()
    chain.put({"a": b"1"})
    assert chain.get(["a"]) == [b"1"]


@every_server
def test_restarted_between_two_calls(kind: str, chain_on: Any) -> None:
    chain, server = chain_on(kind)
    chain.put({"a": b"1"})
    server.kill()
    server.start()
    chain.get(["a"])  # may find that its connection is gone
    chain.put({"a": b"2"})
    assert chain.get(["a"]) == [b"2"]
    assert chain.statistics()[0].opened == 0


@pytest.mark.usefixtures("impatient")
@every_server
def test_stopped(kind: str, own_server: Callable[[str], Server]) -> None:
    """One call waits for the time-out, and then none."""
    server = own_server(kind)
    frozen: list[float] = []  # once the layers are left out: a pause must not end by itself

    def clock() -> float:
        return frozen[0] if frozen else time.monotonic()

    used, fresh = (Chain([on_server(kind, server.port)], clock=clock) for _ in range(2))
    used.put({"a": b"1"})
    with server.stopped():
        assert timed(lambda: used.get(["a"])) == [None]  # on its connection
        assert timed(lambda: fresh.put({"a": b"1"})) is None  # on a new one
        frozen.append(time.monotonic() - 10)
        for each in (used, fresh):
            assert (
                timed(lambda chain=each: [chain.get(["a"]) for _ in range(100)]) == [[None]] * 100
            )
            assert each.statistics()[0].skipped == 100


@pytest.mark.usefixtures("impatient")
@every_server
def test_an_answer_too_late_is_nobodys(kind: str, chain_on: Any, clock: Clock) -> None:
    chain, server = chain_on(kind)
    chain.put({"a": b"1", "b": b"2"})
    with server.stopped():
        assert chain.get(["a"]) == [None]
    clock.now += AWAY
    assert chain.get(["b"]) == [b"2"]
    assert chain.get(["a"]) == [b"1"]


def test_interrupted_in_the_middle_of_an_answer(own_server: Callable[[str], Server]) -> None:
    """pymemcache would go on with the connection, and with the rest of the answer in it."""

    class Interrupted(ProxyBackend):
        def get_serialized_multi(self, keys: Any) -> Any:
            if keys == ["b"]:
                (client,) = self.proxied.client.clients.values()  # type: ignore[attr-defined]
                client.sock.sendall(b"get b\r\n")
                raise KeyboardInterrupt
            return self.proxied.get_serialized_multi(keys)

    region = on_server("memcached", own_server("memcached").port)
    region.wrap(Interrupted)
    chain = Chain([region])
    chain.put({"a": b"1", "b": b"2"})
    with pytest.raises(KeyboardInterrupt):
        chain.get(["b"])
    assert chain.get(["a"]) == [b"1"]


@every_server
def test_flushed(kind: str, chain_on: Any) -> None:
    chain, server = chain_on(kind)
    chain.put({"a": b"1"})
    server.flush()
    assert chain.get(["a"]) == [None]
    assert chain.statistics()[0].errors == 0


@every_server
def test_full(kind: str, chain_on: Any) -> None:
    """What it has it gives; that it takes nothing is counted, and is no reason to leave it out."""
    chain, server = chain_on(kind)
    chain.put({"a": b"1"})
    if kind == "redis":
        server.say("CONFIG SET maxmemory 1")
        big = b"2"
    else:
        big = bytes(2_000_000)  # more than an item may have
    for _ in range(10):
        chain.put({"b": big})
    assert chain.get(["a", "b"]) == [b"1", None]
    statistics = chain.statistics()[0]
    assert (statistics.errors, statistics.opened, statistics.puts) == (10, 0, 1)


@pytest.mark.usefixtures("impatient")
@every_server
@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\x00\xff\x80\r\n" * 50,
        b"VALUE a 0 99999999999\r\n",
        b"VALUE other 0 1\r\n1\r\nEND\r\n",
        b"$-5\r\n*3\r\n:1\r\n",
        b"*1000000000\r\n",
        b"+OK\r\n",
        b"END\r\n",
    ],
    ids=range(8),
)
def test_nonsense(kind: str, answer: bytes, clock: Clock) -> None:
    with nonsense(answer) as port:
        chain = Chain([on_server(kind, port)], clock=clock)
        for _ in range(2):
            assert timed(lambda: chain.get(["a"])) == [None]
            timed(lambda: chain.put({"a": b"1"}))
            clock.now += AWAY


def test_a_full_disk(tmp_path: Path) -> None:
    name = str(tmp_path / "cache.dbm")

    def in_child() -> tuple[Any, int]:
        chain = Chain([make_region().configure("dogpile.cache.dbm", arguments={"filename": name})])
        chain.put({"a": b"1"})
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))
        chain.put({"b": bytes(100_000)})
        return chain.get(["b"])[0] == bytes(100_000), chain.statistics()[0].errors

    stored, errors = fork(in_child).join()
    assert not stored
    assert errors >= 1


# Locks


LOCKS = {"distributed_lock": True, "thread_local_lock": False}


@every_server
def test_one_holds_the_lock(kind: str, chain_on: Any) -> None:
    port = chain_on(kind)[1].port
    one, two = (Chain([memory(), on_server(kind, port, **LOCKS), memory()]) for _ in range(2))
    mine, his, another = one.mutex("a"), two.mutex("a"), two.mutex("b")
    assert mine is not None
    assert his is not None
    assert another is not None
    assert mine.acquire()
    assert not his.acquire()
    assert another.acquire()
    his.release()  # he has none
    assert not his.acquire()
    mine.release()
    assert his.acquire()
    with pytest.raises(ValueError, match="not waited for"):
        his.acquire(wait=True)


@every_server
def test_a_lock_ends_by_itself(kind: str, chain_on: Any) -> None:
    server = chain_on(kind)[1]
    mutex = Chain([on_server(kind, server.port, **LOCKS)]).mutex("a")
    assert mutex is not None
    assert mutex.acquire()
    if kind == "redis":
        assert 0 < int(server.say("PTTL _locka")[1:]) <= 30_000
    else:
        assert 0 < int(server.say("mg _locka t").split()[1][1:]) <= 30


@every_server
def test_a_lock_whose_server_is_away_stops_nobody(kind: str, chain_on: Any, clock: Clock) -> None:
    server = chain_on(kind)[1]
    chain = Chain([on_server(kind, server.port, **LOCKS)], clock=clock)
    held, free = chain.mutex("a"), chain.mutex("b")
    assert held is not None
    assert free is not None
    assert held.acquire()
    server.kill()
    for _ in range(5):
        assert timed(free.acquire)
        timed(free.release)
    timed(held.release)
    assert chain.statistics()[0].errors == 3


def test_no_lock_without_a_server(tmp_path: Path) -> None:
    file = {"filename": str(tmp_path / "cache.dbm")}
    dbm = make_region().configure("dogpile.cache.dbm", arguments=file)
    assert Chain([memory(), dbm]).mutex("a") is None
    assert Chain([]).mutex("a") is None
    assert Chain([on_server("redis", 1)]).mutex("a") is None


# Processes and threads


@every_server
def test_forked(kind: str, chain_on: Any) -> None:
    """Parent and children use one connection each, at the same time."""
    chain, _ = chain_on(kind)
    values = {f"k{number}": f"{number}".encode() * 100 for number in range(50)}
    chain.put(values)

    def in_child() -> tuple[int, int]:
        wrong = 0
        for _ in range(20):
            for address, value in values.items():
                wrong += chain.get([address]) != [value]
        return wrong, chain.statistics()[0].errors

    layer = chain.layers[0]
    with layer._lock, layer.breaker._lock:  # by other threads, at the moment of the fork
        children = [fork(in_child) for _ in range(2)]
    assert in_child() == (0, 0)
    assert [child.join() for child in children] == [(0, 0), (0, 0)]


@every_server
def test_threads_meet_a_kill(kind: str, chain_on: Any, caplog: pytest.LogCaptureFixture) -> None:
    """One line when it goes, whatever the number of threads; no thread raises or gets nonsense."""
    chain, server = chain_on(kind)
    chain.put({"a": b"1"})
    together = threading.Barrier(9)
    wrong: list[Any] = []

    def work() -> None:
        assert chain.get(["a"]) == [b"1"]
        together.wait()
        together.wait()
        for _ in range(20):
            try:
                answer = chain.get(["a"])
            except BaseException as error:
                answer = [error]
            if answer != [None]:
                wrong.append(answer)
        backend: Any = chain.layers[0]._storage.backend
        if kind == "memcached":
            backend.client.close()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    together.wait()
    server.kill()
    together.wait()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(caplog.records) == 1
