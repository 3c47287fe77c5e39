"""What actors do, where it is more than a read or a write of a `Worker`."""

from __future__ import annotations

from ..workers import Worker


def look(worker: Worker) -> None:
    """The worker's process looks at the ledger, and reads none of the pages."""
    worker.cache_manager.get("looked at by the test", lambda: None)
