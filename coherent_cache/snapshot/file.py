"""The file of a snapshot: read if it is ours and whole, replaced as a whole.

It is one payload of an `Envelope`, so it is sealed, and of one application, version, serializer and
table.  A new one is written beside it, brought to the disk and renamed: who is killed meanwhile
leaves the old one.  (Test: test_killed_while_it_saves.)
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterable
from typing import cast

from filelock import FileLock

from ..errors import BadPayload
from ..tier.envelope import Envelope
from .config import Snapshot
from .records import Record, Records

_log = logging.getLogger("coherent_cache")

#: What may stand around the values.
_AROUND = 1 << 16
#: What it is sealed for.
_KEY = "snapshot"


class SnapshotFile:
    """The file of one ledger's table.  Who replaces it holds its lock, who reads it need not."""

    def __init__(self, snapshot: Snapshot, table: str) -> None:
        self.path = os.path.abspath(os.fspath(snapshot.path))
        self._table = table
        self._most = snapshot.max_bytes + _AROUND
        self._envelope = Envelope(
            application=snapshot.application,
            version=snapshot.version,
            serializer=Records(snapshot.make_serializer()),
            keys=snapshot.keys,
            compress_above=1_024 if snapshot.compress else None,
            compression_level=1,
            max_bytes=self._most,
        )
        # One warning for each bad file.
        self._warned = False

    def lock(self, seconds: float) -> FileLock:
        """The lock that those who replace the file hold; not taken yet.  Taking it raises
        `OSError` (`filelock.Timeout` is one)."""
        return FileLock(self.path + ".lock", timeout=seconds, mode=0o600, thread_local=False)

    def stamp(self) -> tuple[int, ...] | None:
        """What changes when the file is replaced; None if there is none."""
        try:
            found = os.stat(self.path)
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size

    def read(self) -> list[Record]:
        """The records of the file, those that are used most first; none if there is no file, or
        one that is not ours or not whole.  Raises nothing."""
        try:
            payload = _read(self.path, self._most)
            opened = self._envelope.open(
                payload, key="snapshot", variant=self._table, generation=""
            )
        except FileNotFoundError:
            return []
        except (OSError, BadPayload) as error:
            if not self._warned:
                self._warned = True
                _log.warning(
                    "the snapshot %r is not used, and is replaced at the next saving: %s",
                    self.path,
                    error,
                )
            return []
        return cast("list[Record]", opened.value)

    def write(self, records: Iterable[bytes]) -> None:
        """Replace the file by one of *records*.  Raises `OSError`."""
        payload = self._envelope.seal(_KEY, self._table, "", {}, records)
        beside = self.path + ".new"
        try:
            # What stands there is of one who was killed, or of a stranger: never opened.
            os.unlink(beside)
        except FileNotFoundError:
            pass
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        try:
            with open(os.open(beside, flags, 0o600), "wb") as file:
                file.write(payload)
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, self.path)
        except BaseException:
            try:
                os.unlink(beside)
            except OSError:
                pass
            raise
        _sync_directory(os.path.dirname(self.path))
        self._warned = False


def _read(path: str, most: int) -> bytes:
    """The bytes of the file at *path*, if only its owner may write to it, and that is us."""
    flags = (
        os.O_RDONLY
        | getattr(os, "O_BINARY", 0)
        | getattr(os, "O_NONBLOCK", 0)  # a pipe nobody writes to
        | getattr(os, "O_NOFOLLOW", 0)
    )
    with open(os.open(path, flags), "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise OSError("it is no regular file")
        if hasattr(os, "geteuid"):
            if found.st_uid not in (0, os.geteuid()):
                raise OSError("it belongs to another user")
            if found.st_mode & 0o022:
                raise OSError("others may write to it")
        return file.read(most + 1)  # one byte too many is refused by the envelope


def _sync_directory(path: str) -> None:
    """Bring the renaming to the disk, where directories can be."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:  # not on Windows
        return
    try:
        os.fsync(descriptor)
    except OSError:
        pass
    finally:
        os.close(descriptor)
