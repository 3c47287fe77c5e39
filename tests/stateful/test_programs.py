"""Random programs hold on each database at each isolation level; broken caches are found out."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from coherent_cache.entry import Entry, Slot
from coherent_cache.store import Store
from coherent_cache.transaction import Outcome, Transaction
from coherent_cache.view import View

from ..databases import Database
from .machine import Programs, prepare, restart

pytestmark = [pytest.mark.long, pytest.mark.thorough]

EXAMPLES = int(os.environ.get("COHERENT_CACHE_STATEFUL_EXAMPLES", "0"))
LEVELS = {
    "postgresql": ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"],
    "mariadb": ["READ COMMITTED", "REPEATABLE READ"],
}


def run(
    database: Database, level: str | None, examples: int, *, who: str = "AB", shrink: bool = True
) -> None:
    """Run that many programs; those of CI are the same each time."""

    def program() -> Programs:
        restart(database)
        return Programs(database, level, who)

    run_state_machine_as_test(
        program,
        settings=settings(
            max_examples=EXAMPLES or examples,
            stateful_step_count=50 if EXAMPLES else 30,
            derandomize=not EXAMPLES,
            database=None,
            deadline=None,
            phases=[Phase.generate, Phase.shrink] if shrink else [Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.timeout(0 if EXAMPLES else 120)
@pytest.mark.parametrize("number", range(3))
def test_programs(database: Database, number: int) -> None:
    levels: list[str | None] = [*LEVELS.get(database.kind, [None])]
    if number < len(levels):
        prepare(database)
        run(database, levels[number], 20)


# A machine that cannot fail would show nothing.


def _publish_dirty(patch: pytest.MonkeyPatch) -> None:
    publish = Store.publish

    def dirty(self: Store, slot: Slot, entry: Entry) -> bool:
        return publish(self, slot, Entry(slot, entry.value, entry.label, others=entry.others))

    patch.setattr(Store, "publish", dirty)


def _publish_what_was_dropped(patch: pytest.MonkeyPatch) -> None:
    publish = Store.publish

    def old(self: Store, slot: Slot, entry: Entry) -> bool:
        fresh = Entry(slot, entry.value, self.label, others=entry.others, owners=entry.owners)
        return publish(self, slot, fresh)

    patch.setattr(Store, "publish", old)


def _do_not_look_after_own_commit(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(View, "uncheck", lambda self: None)


def _show_what_is_pending(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Transaction, "hides", lambda self, keys: False)


def _ignore_savepoints(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Transaction, "savepoint", lambda self, name, commits=False: None)
    patch.setattr(Transaction, "rollback_to", lambda self, name: None)


def _keep_after_rollback(patch: pytest.MonkeyPatch) -> None:
    end = Transaction.end

    def kept(self: Transaction, outcome: Outcome) -> None:
        private = {
            slot: Entry(slot, entry.value, entry.label, others=entry.others)
            for level in self._levels
            for (_, slot), (entry, _) in level.values.items()
        }
        views = self._views
        end(self, outcome)
        for view in views if outcome is not Outcome.COMMITTED else ():
            view.values.update(private)

    patch.setattr(Transaction, "end", kept)


def _forget_what_values_were_computed_from(patch: pytest.MonkeyPatch) -> None:
    publish = Store.publish

    def alone(self: Store, slot: Slot, entry: Entry) -> bool:
        return publish(self, slot, Entry(slot, entry.value, entry.label, owners=entry.owners))

    patch.setattr(Store, "publish", alone)


#: Found within seconds; the others take up to half a minute each, and come with the long profile.
BROKEN = [
    _publish_what_was_dropped,
    _do_not_look_after_own_commit,
    _show_what_is_pending,
    _forget_what_values_were_computed_from,
]
if EXAMPLES:
    BROKEN += [_publish_dirty, _ignore_savepoints, _keep_after_rollback]


@pytest.mark.on("sqlite-wal")
@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_cache_is_found_out(
    database: Database,
    broken: Callable[[pytest.MonkeyPatch], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    prepare(database)
    broken(monkeypatch)
    with pytest.raises(AssertionError, match=" is "):
        run(database, None, 500, who="A", shrink=False)


@pytest.mark.on("sqlite-wal")
def test_a_failure_shrinks_to_a_short_schedule(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(database)
    _show_what_is_pending(monkeypatch)
    with pytest.raises(AssertionError) as caught:
        run(database, None, 500, who="A")
    steps = [line for note in caught.value.__notes__ for line in note.splitlines()]
    steps = [line.strip() for line in steps if "state." in line and "teardown" not in line]
    print("\n".join(steps))
    assert 0 < len(steps) <= 6
    assert all("client='A'" in step for step in steps)
