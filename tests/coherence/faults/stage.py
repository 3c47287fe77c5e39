"""Where a fault takes place: the plan of a run, its database, and those who interfere."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from ...databases import Database
from ..anomaly import Anomaly
from ..disturbers import Disturber
from ..history import Event
from ..plan import Plan
from ..tiers import TierPlace
from .audit import Audit
from .servers import Server, private_server


@dataclass
class Stage:
    """A run that is being prepared; each fault changes it as it needs."""

    plan: Plan
    #: The database as it is, whatever stands between it and the workers.
    database: Database
    #: The run's own server, if one of the faults needs one.
    server: Server | None = None
    #: Where the plan's tier is, if it has one.
    tier: TierPlace | None = None
    disturbers: list[Disturber] = field(default_factory=list)
    #: Judges the history, given the database's record, where the checker alone would do it wrong.
    judge: Callable[[Sequence[Event], Collection[str]], list[Anomaly]] | None = None

    def change(self, **changes: Any) -> None:
        """Change the plan."""
        self.plan = replace(self.plan, **changes)

    def within(self, *wraps: Callable[..., AbstractContextManager[None]]) -> None:
        """Let each worker do its work within *wraps*, see `Plan.within`."""
        self.plan = replace(self.plan, within=(*self.plan.within, *wraps))


@dataclass(frozen=True)
class Fault:
    """Something that happens in real life, and how it is brought about."""

    name: str
    #: The kinds of databases it can happen to.
    on: Sequence[str]
    #: Sets the stage; what it opens ends with the run.
    enter: Callable[[Stage], AbstractContextManager[None]]
    #: Settings of the server of its own that it needs, None if any server does.
    server: Mapping[str, str] | None = None
    #: What the disturber writes down: the names under which it is counted.
    counted: Sequence[str] = ()


@contextmanager
def staged(
    faults: Sequence[Fault],
    plan: Plan,
    server: Server | None = None,
    tier: TierPlace | None = None,
) -> Iterator[Stage]:
    """The stage of a run of *plan* with *faults*.

    *server* is one that can be killed, for faults that need it; else one is made.  *tier* is the
    place of the tier that the plan names.
    """
    with ExitStack() as stack:
        wanted = [fault.server for fault in faults if fault.server is not None]
        if wanted and not plan.kind.startswith("sqlite"):
            if server is None:
                settings = {name: value for each in wanted for name, value in each.items()}
                server = stack.enter_context(private_server(plan.kind, **settings))
            plan = replace(plan, url=server.url)
        stage = Stage(plan, Database(plan.kind, plan.url), server, tier)
        stack.callback(stage.database.dispose)
        stage.disturbers.append(Audit(stage.database))
        for fault in faults:
            stack.enter_context(fault.enter(stage))
        yield stage
