"""Connections of a task's transaction that the tasks which it has begun work on."""

from __future__ import annotations

import asyncio

#: Seconds that a COMMIT or ROLLBACK waits for those who were lent the connection.  One of them may
#: wait for what its caller does afterwards.
_PATIENCE = 1.0


class Loans:
    """Who else works on the connection of a transaction, at this moment.

    The interleaving this guards against: a task that nobody waits for reads, and the one that has
    begun it commits in the middle.  The reader would find its connection closed, and drivers that
    are asked two things at once refuse the second, which may be the COMMIT.
    (Test: test_a_commit_while_a_task_reads_on_the_connection.)
    """

    def __init__(self) -> None:
        self._users: dict[object, object] = {}
        self._given_back = asyncio.Event()

    def lend(self, reason: object, user: object) -> None:
        """The task *user* works on the connection until `give_back` is called with the same
        *reason*: its block or its load."""
        self._users[reason] = user

    def give_back(self, reason: object) -> None:
        """See `lend`."""
        self._users.pop(reason, None)
        self._given_back.set()

    async def wait(self, user: object) -> None:
        """Wait until nobody but *user* works on the connection, but not for ever."""
        try:
            async with asyncio.timeout(_PATIENCE):
                while any(other != user for other in self._users.values()):
                    self._given_back.clear()
                    await self._given_back.wait()
        except TimeoutError:
            pass
