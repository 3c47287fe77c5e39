"""The ledger is pruned as hard as it can be, again and again, beside those who read and write it.

Whoever stood still meanwhile finds that the news he has not read are gone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError

from coherent_cache import CacheManager

from ..disturbers import Scene
from .stage import Stage
from .striking import Striking


class Prune(Striking):
    """Leaves the newest row only, or as much as others allow."""

    def __init__(self, stage: Stage, every: float) -> None:
        super().__init__(every)
        self._stage = stage

    def start(self, scene: Scene) -> None:
        self._manager = CacheManager(self._stage.database.engine())
        super().start(scene)

    def strike(self) -> None:
        try:
            deleted = self._manager.prune(keep=1, batch=self.random.choice([5, 100]))
        except DBAPIError:
            return  # the server is away: somebody else's doing
        if deleted:
            self.scene.did("prune", str(deleted))

    def stop(self) -> None:
        super().stop()
        self._manager.close()


@contextmanager
def prune(stage: Stage) -> Iterator[None]:
    stage.disturbers.append(Prune(stage, 0.04))
    yield
