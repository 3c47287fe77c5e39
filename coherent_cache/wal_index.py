"""SQLite's wal-index, read from memory: whether anything was committed, without a statement.

In WAL mode all processes that use a database share a file, ``<database>-shm``, which each has
mapped.  It begins with a header, twice 48 bytes, that says which frames of the WAL are committed: a
reader takes his snapshot by copying it, and SQLite itself takes the pages that it has in memory for
current as long as the header is what it was.  A COMMIT changes it before it returns.

*Claim: if the header is what it was before a check's statement, every commit that has returned was
in that check.*  Let `h` be read, then the check's snapshot opened, then later `h` again.  A header
with frames names them by their number, two salts (one counted up, one random, with each restart of
the WAL) and a checksum over all of them; so equal headers name equal frames, and none of these are
written again under the same salts.  So the state that the second `h` names is that of the first,
and the check's snapshot is no older.  A commit that has returned is in the state that is named.

==========================  =======================================================================
A writer is killed          before the header: its frames are nobody's until somebody recovers the
                            index, which names them in the header.  Within it: the two copies
                            differ.
Recovery                    counts from 0 again, but the frames are named as before.
A WAL without frames        names nothing: two of them may be equal.  There a check asks.
A checkpoint                moves pages and commits nothing.  One that restarts the WAL has new
                            salts.
No WAL, an exclusive lock   nobody can change to them while a connection of this process is open
                            in WAL mode, and where it is not there is nothing mapped.
The file was replaced       is seen by its number, as elsewhere (`SideConnection`).
==========================  =======================================================================

SQLite's locks on that file are POSIX locks: closing *any* descriptor of it in this process would
drop them.  So none is opened.  The pages are those that SQLite has mapped for this process's own
connection (``/proc/self/maps``), mapped a second time by ``mremap``, which needs no descriptor, and
only if this process has SQLite's lock on the file (``/proc/locks``: a forked child has not).  That
lock keeps others from cutting the file off, so the pages are read only while the connection is
open.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
import threading
import weakref
from pathlib import Path

_COPY = 48
_MAYMOVE = 1
_PAGE = mmap.PAGESIZE
#: The format that all releases since 3.7.0 write, and the byte they lock while they use the file.
_VERSION = 3007000
_LOCKED_BYTE = 128


class WalIndex:
    """The header of one database's wal-index, as long as the connection it came with is open."""

    def __init__(self, address: int) -> None:
        # Guards the pages against their end.  No other lock is taken meanwhile.  (A thread that
        # looks while another closes the connection would read pages that nobody vouches for.)
        self._lock = threading.Lock()
        self._header: ctypes.Array[ctypes.c_char] | None = (
            ctypes.c_char * (2 * _COPY)
        ).from_address(address)
        self._unmap = weakref.finalize(self, _libc().munmap, address, _PAGE)
        self._unmap.atexit = False

    def read(self) -> bytes | None:
        """Return what names the state of the database, or None where nothing does.  No I/O."""
        with self._lock:
            if self._header is None:
                return None
            found = self._header.raw
        return found if names_a_state(found) else None

    def close(self) -> None:
        """Read no more.  To be called before the connection is closed."""
        with self._lock:
            self._header = None
            self._unmap()


def names_a_state(header: bytes) -> bool:
    """Whether both copies of the *header* are one, of the known format, and name frames."""
    version, initialised, frames = struct.unpack_from("=I8xB3xI", header)
    return (
        header[:_COPY] == header[_COPY:] and version == _VERSION and initialised == 1 and frames > 0
    )


def map_wal_index(path: str) -> WalIndex | None:
    """Map the wal-index of the database at *path* once more; None where that cannot be done, or
    not be shown to be right.  A connection to it that has read has to be open, and stay open."""
    try:
        found = os.stat(f"{path}-shm")
        address = _mapped_at(found)
        if not address or not _is_locked_by_us(found):
            return None
        again = _libc().mremap(address[0], 0, _PAGE, _MAYMOVE)
        # What was mapped there when the list was read may have gone, if it was not SQLite's.
        return WalIndex(again) if again in _mapped_at(found) else None
    except (OSError, AttributeError, ValueError, IndexError):  # not Linux, or not as we know it
        return None


def _mapped_at(file: os.stat_result) -> list[int]:
    """Where the beginning of *file* is mapped into this process, to be shared."""
    addresses = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        place, permissions, offset, device, number, *_ = line.split()
        if (
            int(number) == file.st_ino
            and _device(device) == file.st_dev
            and permissions.endswith("s")
            and int(offset, 16) == 0
        ):
            addresses.append(int(place.partition("-")[0], 16))
    return addresses


def _is_locked_by_us(file: os.stat_result) -> bool:
    """Whether this process has the lock that SQLite takes on *file* while it uses it."""
    for line in Path("/proc/locks").read_text().splitlines():
        _, kind, _, _, pid, place, first, last, *_ = [*line.split(), "", ""]
        if kind != "POSIX" or pid != str(os.getpid()):
            continue
        device, _, number = place.rpartition(":")
        if int(number) == file.st_ino and _device(device) == file.st_dev:
            end = float("inf") if last == "EOF" else int(last)
            if int(first) <= _LOCKED_BYTE <= end:
                return True
    return False


def _device(name: str) -> int:
    major, minor = name.split(":")
    return os.makedev(int(major, 16), int(minor, 16))


def _libc() -> ctypes.CDLL:
    found = ctypes.CDLL(None)
    found.mremap.restype = ctypes.c_void_p
    found.mremap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int]
    found.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    return found
