"""Protections of keys that come when a transaction takes no more of them."""

from __future__ import annotations

from .mutant import Mutant

CASE_14 = "schedules/test_cases_11_to_15.py::test_case_14_"
DURING = (f"{CASE_14}a_del_during_another_threads_commit",)
LATE = "test_late_invalidations.py::test_"

MUTANTS = [
    Mutant(
        "a-transaction-that-ended-takes-keys",
        "transaction.py",
        "        return not self.closed and levels is self._levels\n",
        "        return True\n",
        DURING,
    ),
    Mutant(
        "a-session-that-ended-takes-keys",
        "sessions.py",
        "        return transaction.is_active\n",
        "        return True\n",
        (f"{CASE_14}a_del_while_another_threads_session_ends",),
    ),
    Mutant(
        "keys-are-taken-before-no-more-are",
        "transaction.py",
        "        self.closed = True\n        self.taken = self.pending()\n",
        "        self.taken = self.pending()\n        self.closed = True\n",
        (f"{LATE}keys_that_come_while_others_are_taken",),
    ),
    Mutant(
        "keys-are-taken-while-it-ends",
        "transaction.py",
        "        self.closed = True  # first, see `invalidate`\n",
        "",
        (f"{LATE}keys_that_come_at_the_end", f"{LATE}keys_that_come_while_it_is_found_calm"),
    ),
    Mutant(
        "keys-are-taken-for-those-of-the-next-transaction",
        "transaction.py",
        "not self.closed and levels is self._levels",
        "not self.closed",
        (f"{LATE}keys_that_come_while_the_connection_goes_on_with_another",),
    ),
    Mutant(
        "keys-are-taken-after-a-commit-without-any",
        "writing.py",
        "        if transaction.written or not transaction.close():\n",
        "        if transaction.is_calm:\n",
        (f"{CASE_14}a_del_after_another_threads_commit_of_no_keys",),
    ),
    Mutant(
        "a-commit-that-was-not-sent-ends-it",
        "writing.py",
        "            transaction.closed = transaction.written",
        "            pass",
        (f"{LATE}it_goes_on_if_they_could_not_be_written",),
    ),
    Mutant(
        "what-came-during-a-commit-was-invalidated-before-it",
        "watch.py",
        "        if not late:\n",
        "        if not late or outcome is not Outcome.ROLLED_BACK:\n",
        DURING,
    ),
    Mutant(
        "what-cannot-be-invalidated-again-fails-the-commit",
        "core.py",
        "        except (DBAPIError, CacheError):  # the COMMIT",
        "        except ZeroDivisionError:  # the COMMIT",
        (f"{CASE_14}what_came_during_a_commit_cannot_be_invalidated_again",),
    ),
]
