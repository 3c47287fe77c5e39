"""Commits announced in memory that processes of one host share: whether anything was committed,
without a statement.

All processes that are given one path share a row of numbers (`slots`).  Before a process sends the
COMMIT of a transaction that has rows in the ledger it counts a slot of its own up, to an odd
number; when it knows how the COMMIT ended it counts it up again.

*Claim: if all slots were even before a check's statement was sent, and are the same later, every
commit that has returned by then was in that check.*  Let the check read the slots at `a`, ask after
it, and somebody read the same at `b`.  Let C be a commit that has returned before `b` and was not
in the check's snapshot.  It was announced either before `a`: since its slot was even then, it had
ended, and was in the snapshot.  Or between `a` and `b`: then its slot is not what it was, for slots
are only ever counted up.

=====================  ============================================================================
A writer is killed     while its slot is odd: whether the COMMIT comes is unknown.  The slot is
                       nobody's and stays odd, so checks ask, until it is settled.
The answer to a        The writer leaves the slot in the same way, and takes another one.
COMMIT is lost
A slot is settled      by a process that owns it from now on, when the database has told it that
                       whatever was open after that has ended (`Ledger.unsettled`).  So a
                       transaction must be open in the database, and known to be, before it is
                       announced.
A COMMIT is prepared   Its slot is odd until the second phase.  If that is another's, it is settled
                       when nothing is prepared any more.
A process is forked    It owns none of its parent's slots.
The file was replaced  That is seen by its number, at each look and after each COMMIT, which then is
                       announced in the new file too, before it returns.  One slot is the file's
                       own name.
=====================  ============================================================================

Who commits without announcing it is not seen here: `OneHost` looks each few seconds for those.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable

from .errors import ConfigurationError
from .forking import tell_after_fork
from .points import point
from .slots import FULL, Slots, are_even

_log = logging.getLogger("coherent_cache")

#: Seconds between two attempts to settle what others have left.
_SETTLE_SECONDS = 0.25
#: Seconds between two attempts to open a file that cannot be opened.
_REOPEN_SECONDS = 1.0

#: What is open of what was known to be, or (None) of anything: see `Ledger.unsettled`.
Unsettled = Callable[[frozenset[str] | None], frozenset[str]]


class Announcement:
    """A COMMIT that is about to be sent."""

    __slots__ = ("_announcements", "_slot", "_slots")

    def __init__(self, announcements: Announcements, slots: Slots, slot: int) -> None:
        self._announcements = announcements
        self._slots: Slots | None = slots
        self._slot = slot

    def end(self, *, known: bool) -> None:
        """The COMMIT has ended, and it is *known* how; or it may come still."""
        slots, self._slots = self._slots, None
        if slots is None:
            return
        if known:
            slots.over(self._slot)
        else:
            slots.leave(self._slot)
        # The interleaving this guards against: the file is replaced after this was announced, and
        # a reader makes the new one's first check before the COMMIT.
        # (Test: test_the_file_is_replaced_during_a_commit.)
        if not slots.is_inherited and not slots.is_current():
            self._announcements.announce_again(slots, known=known)

    def __del__(self) -> None:
        if self._slots is not None:  # its transaction was dropped in the middle of it
            self._slots.leave(self._slot)


class Announcements:
    """What the processes that are given one path announce to each other.  Safe for threads."""

    def __init__(self, path: str, ledger: str) -> None:
        self._path = path
        self._ledger = ledger
        self._slots = Slots(path, ledger)
        self._quiet = b""  # what the slots were when they were found even last
        # Guards the replacement of the slots.  Their own lock may be taken meanwhile; no I/O but
        # the opening of the file.
        self._lock = threading.Lock()
        # Held by who settles, while it asks the database.  Nobody waits for it.
        self._settling = threading.Lock()
        # Which slots of which file, and what was open after they were adopted.
        self._left: dict[tuple[Slots, int], frozenset[str] | None] = {}
        self._settle_at = self._reopen_at = 0.0
        tell_after_fork(self)

    def state(self) -> bytes | None:
        """Return what tells that nothing was committed if it is the same later; None while a
        COMMIT may be on its way.  No I/O but for one look at the file's number."""
        slots = self._slots
        if not slots.is_current():
            self._reopen(slots)
            return None
        found = slots.read()
        if found != self._quiet:
            if not are_even(found):
                return None
            self._quiet = found
        return found

    @point(after="commit: announced, not sent")
    def announce(self) -> Announcement:
        """Announce a COMMIT.  Its transaction has to be open in the database, see the module."""
        slots = self._slots
        return self._announce_in(slots if slots.is_current() else self._reopen(slots))

    def announce_again(self, replaced: Slots, *, known: bool) -> None:
        """Announce a COMMIT that has ended, or may come still, to those who have not *replaced* but
        the file that has taken its place."""
        slots = self._reopen(replaced)
        if slots is not replaced:
            self._announce_in(slots).end(known=known)

    def _announce_in(self, slots: Slots) -> Announcement:
        slot = slots.begin()
        if slot is None:
            _log.warning("%s has no slot left: from now on each request asks", self._path)
            slot = FULL
        return Announcement(self, slots, slot)

    def wants_settling(self) -> bool:
        """Whether it is time to look for slots that were left."""
        return time.monotonic() >= self._settle_at and self.state() is None

    def settle(self, unsettled: Unsettled) -> None:
        """Look for slots that were left, and count up those whose transactions have ended.

        *unsettled* asks the database.  A slot is owned first, then what is open is asked for; when
        all of that has ended the slot is counted up.  The interleaving this guards against:
        somebody asks what is open, a COMMIT is announced, its writer is killed, and by what was
        open before that it is taken for ended.
        """
        if not self._settling.acquire(blocking=False):
            return
        try:
            self._settle_at = time.monotonic() + _SETTLE_SECONDS
            slots = self._slots
            self._left.update(dict.fromkeys([(slots, slot) for slot in slots.adopt()]))
            for known in set(self._left.values()):
                still = unsettled(known)
                for place in [place for place, open_ in self._left.items() if open_ == known]:
                    if still:
                        self._left[place] = still
                    else:
                        del self._left[place]
                        place[0].over(place[1])
        finally:
            self._settling.release()

    def _reopen(self, stale: Slots) -> Slots:
        """Return the slots that have taken the place of *stale*, or *stale* if there are none."""
        with self._lock:
            if self._slots is stale and time.monotonic() >= self._reopen_at:
                try:
                    self._slots = Slots(self._path, self._ledger)
                except (OSError, ConfigurationError) as error:
                    self._reopen_at = time.monotonic() + _REOPEN_SECONDS
                    _log.error("%s was replaced, and cannot be opened: %s", self._path, error)
                else:
                    if not stale.is_inherited:
                        _log.warning("%s was replaced: it is opened anew", self._path)
            return self._slots

    def after_fork(self) -> None:
        """Own nothing that is the parent's; the file is opened anew when it is needed."""
        self._lock = threading.Lock()
        self._settling = threading.Lock()
        self._left = {}
        self._slots.forget()


# One for each file and ledger, and for good: its end would close a descriptor, see `slots`.
_known: dict[tuple[str, str], Announcements] = {}
_known_lock = threading.Lock()  # guards the dictionary, while a file is opened; outside all others


def announcements_at(path: str, ledger: str) -> Announcements:
    """The announcements of *ledger*, by a name of it, in the file at *path*, which is made if it is
    not there.

    Raises `ConfigurationError` where there can be none.
    """
    path = os.path.realpath(path)
    with _known_lock:
        found = _known.get((path, ledger))
        if found is None:
            try:
                found = _known[path, ledger] = Announcements(path, ledger)
            except OSError as error:
                raise ConfigurationError(f"OneHost({path!r}): {error}") from error
        return found
