"""Tiers of the tests: a dictionary that the workers of one test share, and a directory."""

from __future__ import annotations

import hashlib
import os
import pickle
import threading
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from coherent_cache.once import FileMutex


class Kept(NamedTuple):
    value: Any
    dependencies: Mapping[str, str]


class Lock:
    """A lock of the shelf; it is not waited for."""

    def __init__(self, lock: threading.Lock) -> None:
        self._lock = lock

    def acquire(self, wait: bool = False) -> bool:
        assert not wait
        return self._lock.acquire(blocking=False)

    def release(self) -> None:
        self._lock.release()


class Many:
    """Several at once: one after the other."""

    def find_many(self, places: Sequence[tuple[str, str, str]]) -> list[Kept | None]:
        return [self.find(*place) for place in places]

    def put_many(self, values: Iterable[tuple[str, str, str, Mapping[str, str], Any]]) -> int:
        return sum(self.put(*value) is None for value in values)

    def find(self, key: str, variant: str, generation: str) -> Kept | None:
        raise NotImplementedError

    def put(
        self, key: str, variant: str, generation: str, dependencies: Mapping[str, str], value: Any
    ) -> None:
        raise NotImplementedError


class Shelf(Many):
    """Keeps everything, for ever, and counts."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str, str], Kept] = {}
        self.locks: defaultdict[tuple[str, str, str], threading.Lock] = defaultdict(threading.Lock)
        self.found = 0

    def find(self, key: str, variant: str, generation: str) -> Kept | None:
        found = self.kept.get((key, variant, generation))
        self.found += found is not None
        return found

    def put(
        self, key: str, variant: str, generation: str, dependencies: Mapping[str, str], value: Any
    ) -> None:
        self.kept[key, variant, generation] = Kept(value, dict(dependencies))

    def mutex(self, key: str, variant: str, generation: str) -> Lock:
        return Lock(self.locks[key, variant, generation])


class Directory(Many):
    """The same in files, for processes."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def find(self, key: str, variant: str, generation: str) -> Kept | None:
        try:
            found: Kept = pickle.loads(self._file(key, variant, generation).read_bytes())
        except FileNotFoundError:
            return None
        return found

    def put(
        self, key: str, variant: str, generation: str, dependencies: Mapping[str, str], value: Any
    ) -> None:
        file = self._file(key, variant, generation)
        unfinished = file.with_suffix(f".{os.getpid()}-{threading.get_ident()}")
        unfinished.write_bytes(pickle.dumps(Kept(value, dict(dependencies))))
        unfinished.replace(file)

    def mutex(self, key: str, variant: str, generation: str) -> FileMutex:
        return FileMutex(str(self._file(key, variant, generation).with_suffix(".lock")))

    def _file(self, *name: str) -> Path:
        return self._path / hashlib.sha256(repr(name).encode()).hexdigest()
