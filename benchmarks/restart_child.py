"""A worker of `benchmarks.restart`: ``restart_child KIND URL PATH REQUESTS SEED SAVE``."""

from __future__ import annotations

import json
import random
import sys
import time

from sqlalchemy import make_url

from coherent_cache import CacheManager
from coherent_cache.snapshot import Snapshot
from tests.databases import Database

from .restart import PAGES, Body

_A_REQUEST = 10


def main(kind: str, url: str, path: str, requests: int, seed: int, *, save: bool) -> None:
    """Print a line when ready; after one was read, what `benchmarks.restart` wants to know."""
    database = Database(kind, make_url(url))
    chosen = random.Random(seed)
    pages = [int(PAGES * chosen.random() ** 3) for _ in range(requests * _A_REQUEST)]
    snapshot = Snapshot(path, every=None) if path else None
    manager = CacheManager(database.engine(), snapshot=snapshot)
    print("ready", flush=True)
    sys.stdin.readline()
    start = time.perf_counter()
    times = []
    for first in range(0, len(pages), _A_REQUEST):
        with manager.request():
            for page in pages[first : first + _A_REQUEST]:
                _ = Body(manager, page).rendered
        times.append(time.perf_counter() - start)
    print(json.dumps({"calls": Body.calls, "times": times}))
    if save:
        manager.save_snapshot()
    manager.core.keeper = None  # the rounds begin with the same file
    manager.close()


if __name__ == "__main__":
    main(*sys.argv[1:4], int(sys.argv[4]), int(sys.argv[5]), save=sys.argv[6] == "save")
