"""Shows on the terminal what is being measured."""

from __future__ import annotations

import sys
import time


class Progress:
    """One line that changes on a terminal; elsewhere a line for each step."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._width = 0

    def step(self, text: str) -> None:
        """*text* is being worked on."""
        line = f"[{time.monotonic() - self._began:5.0f} s] {text}"
        if sys.stderr.isatty():
            print("\r" + line.ljust(self._width), end="", file=sys.stderr, flush=True)
            self._width = len(line)
        else:
            print(line, file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Make room for a table."""
        if sys.stderr.isatty():
            print("\r" + " " * self._width + "\r", end="", file=sys.stderr, flush=True)
            self._width = 0
