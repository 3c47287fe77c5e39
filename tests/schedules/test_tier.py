"""A tier, as exact schedules: somebody commits in each gap between the generations and what they
are read for."""

from __future__ import annotations

import pytest

from coherent_cache import cached

from ..tier.shelf import Shelf
from ..workers import PageText, Worker
from .acts import look
from .schedule import Schedule

pytestmark = pytest.mark.on("sqlite-wal", "postgresql")


class Joined:
    """A value computed from another."""

    def __init__(self, env: Worker) -> None:
        self.env = env

    @cached
    def text(self) -> tuple[str | None]:
        return (PageText(self.env, "Front").text,)


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


def sharers(worker: Worker, shelf: Shelf) -> tuple[Worker, Worker]:
    worker.write("Front", "old")
    return Worker(worker.database, tier=shelf), Worker(worker.database, tier=shelf)


@pytest.mark.parametrize("looks", [True, False], ids=["news applied", "news not applied"])
@pytest.mark.parametrize("what", ["itself", "what it depends on"])
def test_commit_before_the_tier_is_asked(
    worker: Worker, schedule: Schedule, shelf: Shelf, looks: bool, what: str
) -> None:
    """What stands under the generation that was read is given to who asked for it before the
    COMMIT, and to nobody after it."""
    one, two = sharers(worker, shelf)

    def read(of: Worker) -> str | None:
        return PageText(of, "Front").text if what == "itself" else Joined(of).text[0]

    assert read(one) == "old"
    checker = "checker  ends" if looks else ""
    played = schedule(
        f"""
        reader   reaches  tier: generation read, tier not asked
        writer   ends
        {checker}
        reader   ends
        late     ends
        third    ends
        """,
        reader=lambda: read(two),
        writer=lambda: worker.write("Front", "new"),
        late=lambda: read(two),
        third=lambda: read(one),
        **({"checker": lambda: look(two)} if looks else {}),
    )
    assert played["reader"] in ("old", "new")
    assert (played["late"], played["third"]) == ("new", "new")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("load: data read, transactions not asked", ""),
        ("load: value made, not published", ""),
        ("load: published, not kept", ""),
        ("load: data read, transactions not asked", "checker ends"),
        ("load: value made, not published", "checker ends"),
        ("load: published, not kept", "checker ends"),
        ("tier: generations read, ledger not looked at", ""),
        ("tier: generations read, ledger not looked at", "checker ends"),
    ],
)
def test_commit_at_each_moment_of_a_put(
    worker: Worker, schedule: Schedule, shelf: Shelf, before: str, after: str
) -> None:
    """An old value is computed, and somebody commits before the generations are read, or before
    the look that has to come after them.

    It is computed from another one, whose generation is known only then.
    """
    one, two = sharers(worker, shelf)
    assert one.read("Front") == "old"
    then = (
        ""
        if before.startswith("tier")
        else "loader reaches tier: generations read, ledger not looked at"
    )
    if after and then:
        then = ""  # the news are applied: it is not even asked for its generations
    played = schedule(
        f"""
        loader   reaches  {before}
        writer   ends
        {after}
        {then}
        loader   ends
        late     ends
        third    ends
        """,
        loader=lambda: Joined(one).text,
        writer=lambda: worker.write("Front", "new"),
        late=lambda: Joined(two).text,
        third=lambda: Joined(one).text,
        **({"checker": lambda: look(one)} if after else {}),
    )
    assert (played["loader"], played["late"], played["third"]) == (("old",), ("new",), ("new",))
    joined = {kept.value for kept in shelf.kept.values() if isinstance(kept.value, tuple)}
    assert joined <= {("new",)}


def test_evicted_and_loaded_again_between_the_generations_and_the_look(
    worker: Worker, schedule: Schedule, shelf: Shelf
) -> None:
    """It is another value that the store holds by then, and it has another label."""
    one, two = sharers(worker, shelf)
    assert one.read("Front") == "old"

    def load_again() -> tuple[str | None]:
        one.cache_manager.evict()
        look(one)
        return Joined(one).text

    played = schedule(
        """
        loader   reaches  load: data read, transactions not asked
        writer   ends
        loader   reaches  tier: generations read, ledger not looked at
        again    reaches  load: to be done, label not taken
        loader   ends
        again    ends
        late     ends
        """,
        loader=lambda: Joined(one).text,
        writer=lambda: worker.write("Front", "new"),
        again=lambda: load_again(),
        late=lambda: Joined(two).text,
    )
    assert (played["loader"], played["again"], played["late"]) == (("old",), ("new",), ("new",))


def test_pruned_between_the_generation_and_the_tier(
    worker: Worker, schedule: Schedule, shelf: Shelf
) -> None:
    """The row that invalidated the value is pruned before its generation is read again."""
    one, two = sharers(worker, shelf)
    assert one.read("Front") == "old"

    def commit_and_prune() -> None:
        worker.write("Front", "new")
        for number in range(3):
            worker.write("elsewhere", str(number))
        worker.cache_manager.prune(keep=1)

    played = schedule(
        """
        reader   reaches  tier: generation read, tier not asked
        writer   ends
        reader   ends
        late     ends
        third    ends
        """,
        reader=lambda: two.read("Front"),
        writer=commit_and_prune,
        late=lambda: two.read("Front"),
        third=lambda: Worker(worker.database, tier=shelf).read("Front"),
    )
    assert played["late"] == played["third"] == "new"
