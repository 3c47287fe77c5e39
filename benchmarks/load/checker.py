"""Counts wrong answers: one client writes, others read, while somebody else makes the load.

The writer notes a page's version when the response to its write has returned.  A reader notes that
version before it sends a request, and reads on connections of its own, so from any worker: an
answer with a lower version is *stale*.  Writes that were rolled back said "never-committed" in
their transaction: an answer that says so shows what never was.
"""

from __future__ import annotations

import http.client
import re
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

_READERS = 4
_PAGES = 8
_PAUSE_SECONDS = 0.004
_VERSION = re.compile(r"Version (\d+)")


@dataclass
class Found:
    """What was read."""

    answers: int = 0
    stale: int = 0
    never_committed: int = 0
    failed: int = 0
    writes: int = 0

    @property
    def wrong(self) -> int:
        """Answers that should not have been given."""
        return self.stale + self.never_committed


class Checker:
    """A client of the server at *port*; *paths* are pages, quoted for an address."""

    def __init__(self, port: int, paths: Sequence[str]) -> None:
        self._port = port
        self._paths = paths[:_PAGES]
        self._stop = threading.Event()
        # Guards what follows: the version of each page that every reader has to see, and the page
        # that was written last.
        self._lock = threading.Lock()
        self._known = dict.fromkeys(self._paths, 0)
        self._last = self._paths[0]
        self.found = Found()

    def run(self, seconds: float) -> Found:
        """Write and read for *seconds*; what was found so far, in all runs."""
        self._stop.clear()
        threads = [threading.Thread(target=self._write)]
        threads += [threading.Thread(target=self._read, args=(n,)) for n in range(_READERS)]
        for thread in threads:
            thread.start()
        self._stop.wait(seconds)
        self._stop.set()
        for thread in threads:
            thread.join()
        return self.found

    def _write(self) -> None:
        number = 0
        while not self._stop.is_set():
            number += 1
            path = self._paths[number % len(self._paths)]
            if number % 4 == 0:
                self._ask("POST", f"/load/abort/{path}")
            version = self._ask("POST", f"/load/edit/{path}")
            with self._lock:
                self.found.writes += 1
                if version is not None:
                    self._known[path] = max(self._known[path], int(version))
                    self._last = path
            time.sleep(4 * _PAUSE_SECONDS)

    def _read(self, number: int) -> None:
        turn = 0
        while not self._stop.is_set():
            turn += 1
            with self._lock:
                path = self._last if turn % 2 else self._paths[(turn + number) % len(self._paths)]
                known = self._known[path]
            text = self._ask("GET", f"/wiki/{path}")
            shown = _VERSION.search(text or "")
            with self._lock:
                if text is not None and shown is not None:
                    self.found.answers += 1
                    if "never-committed" in text:
                        self.found.never_committed += 1
                    elif int(shown[1]) < known:
                        self.found.stale += 1
            time.sleep(_PAUSE_SECONDS)

    def _ask(self, method: str, path: str) -> str | None:
        """The text of a good answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
        try:
            connection.request(method, path, headers={"Connection": "close"})
            answer = connection.getresponse()
            text = answer.read().decode()
            if answer.status == 200:
                return text
        except (OSError, http.client.HTTPException):
            pass
        finally:
            connection.close()
        with self._lock:
            self.found.failed += 1
        return None
