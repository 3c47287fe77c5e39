"""A file that processes of one host have mapped: a row of numbers, each of which has one owner.

A process owns a *slot* by a lock on its bytes, which ends with the process, and counts it up.
Closing any descriptor of the file would drop all locks that the process has on it, so of a file
that it uses none is closed.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import stat
import sys
import threading

from .errors import ConfigurationError
from .ledger.base import new_token

if sys.platform != "win32":
    import fcntl

_SLOTS = 512
_SIZE = 8 * _SLOTS
#: The slot that names the file, by a random number, and is odd where all others are taken; and the
#: one that says whose it is.
FULL = _SLOTS - 1
_OWNER = FULL - 1
#: Of each slot the byte that says whether it is odd.
_LAST_BYTES = slice(0 if sys.byteorder == "little" else 7, _SIZE, 8)
_EVEN = bytes(range(0, 256, 2))


class Slots:
    """The slots of one file, and which of them are this process's.  Safe for threads.

    Raises OSError or `ConfigurationError` where the file cannot be had, or is not *whose*.
    """

    def __init__(self, path: str, whose: str) -> None:
        if sys.platform == "win32":
            raise ConfigurationError("OneHost needs locks on parts of a file, which Windows lacks")
        self._path = path
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._descriptor = os.open(path, flags, 0o660)
        found = os.fstat(self._descriptor)
        self._number = (found.st_dev, found.st_ino)
        try:
            _prepare(path, self._descriptor, found)
            self._memory = mmap.mmap(self._descriptor, _SIZE)
            # Written whole, not byte by byte.
            self._slots = memoryview(self._memory).cast("Q")
            self._mark(whose)
        except BaseException:
            if self._number in _in_use:
                # The interleaving this guards against: this file is another manager's of this
                # process, whose locks go, and somebody takes a slot of which it thinks as its own.
                # (Test: test_who_is_refused_drops_no_locks.)
                _kept.append(self)
            else:
                os.close(self._descriptor)
            raise
        _in_use.add(self._number)
        # Guards what is owned.  No other lock is taken meanwhile.  It can be taken twice: the
        # collector may drop an `Announcement` in the middle of anything.
        self._lock = threading.RLock()
        self._owned: set[int] = set()
        self._free: list[int] = []
        #: In a forked child: its parent's.
        self.is_inherited = False

    def _mark(self, whose: str) -> None:
        digest = hashlib.blake2b(whose.encode(), digest_size=8).digest()
        number = int.from_bytes(digest, "big") & ~1
        # Of those who find it new one marks it.
        fcntl.lockf(self._descriptor, fcntl.LOCK_EX, 8, 8 * _OWNER)
        try:
            if self._slots[_OWNER] == 0:
                self._slots[_OWNER] = number
                # The interleaving this guards against: the file is replaced, and as many commits
                # later the slots of the new one are what those of the old were.
                # (Test: test_the_file_is_replaced.)
                self._slots[FULL] = new_token() << 1
            if self._slots[_OWNER] != number:
                # One ledger's database would be asked for the other's transactions.
                raise ConfigurationError(f"{self._path} is another ledger's: each has its own file")
        finally:
            self._unlock(_OWNER)

    def is_current(self) -> bool:
        """Whether it is this process's, and what the path names.  One look at the file's number."""
        if self.is_inherited:
            return False
        try:
            found = os.stat(self._path)
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == self._number

    def read(self) -> bytes:
        """All slots as they are, see `are_even`."""
        return self._memory[:_SIZE]

    def begin(self) -> int | None:
        """Count a slot up, to an odd number, and return which; None if none was left."""
        with self._lock:
            slot = self._free.pop() if self._free else self._claim()
            if slot is None:
                self._slots[FULL] |= 1
                return None
            self._slots[slot] += 1
            return slot

    def over(self, slot: int) -> None:
        """Count an own *slot* up once more; it is free again."""
        with self._lock:
            if slot in self._owned:
                self._slots[slot] += 1
                self._free.append(slot)

    def leave(self, slot: int) -> None:
        """Own the *slot* no more, as it is."""
        with self._lock:
            if slot in self._owned:
                self._owned.remove(slot)
                self._unlock(slot)

    def adopt(self) -> list[int]:
        """Own the slots that are odd and nobody's; return which."""
        with self._lock:
            odd = [n for n in range(_OWNER) if self._slots[n] & 1 and n not in self._owned]
            adopted = [n for n in odd if self._take(n, odd=True)]
            self._owned.update(adopted)
            return adopted

    def forget(self) -> None:
        """In a forked child: own nothing.  The locks are not inherited, the descriptor is."""
        self._lock = threading.RLock()  # a thread that is no more may have had it
        self._owned, self._free, self.is_inherited = set(), [], True
        _kept.append(self)

    def _claim(self) -> int | None:
        for slot in range(_OWNER):
            if slot not in self._owned and self._take(slot, odd=False):
                self._owned.add(slot)
                return slot
        return None

    def _take(self, slot: int, *, odd: bool) -> bool:
        """Lock *slot* if nobody has, and it is *odd* or not."""
        if bool(self._slots[slot] & 1) is not odd:
            return False
        try:
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 8, 8 * slot)
        except OSError:
            return False
        # Its owner may have gone on with it, and then left it.
        if bool(self._slots[slot] & 1) is odd:
            return True
        self._unlock(slot)
        return False

    def _unlock(self, slot: int) -> None:
        fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 8, 8 * slot)


def are_even(found: bytes) -> bool:
    """Whether all slots that were read are even."""
    return not found[_LAST_BYTES].translate(None, _EVEN)


def _prepare(path: str, descriptor: int, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode) or found.st_mode & stat.S_IWOTH:
        # Who writes it can hide commits.
        raise ConfigurationError(f"{path} is not a file, or one that everybody may write")
    if found.st_size not in (0, _SIZE):
        raise ConfigurationError(f"{path} is another program's: it has {found.st_size} bytes")
    if found.st_size == 0:
        os.ftruncate(descriptor, _SIZE)
    # Where the file system has no locks this says so.
    fcntl.lockf(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB, 1, _SIZE)
    fcntl.lockf(descriptor, fcntl.LOCK_UN, 1, _SIZE)


#: Files by device and number of which this process may have slots, and what is kept lest its end
#: closes a descriptor of one.
_in_use: set[tuple[int, int]] = set()
_kept: list[Slots] = []
