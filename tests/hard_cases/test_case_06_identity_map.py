"""Hard case 6, the ORM's part: an old snapshot in the identity map.

A request has loaded a page into its session. Another worker changes the page, commits, and the
ledger is looked at. Now the request's retriever selects the pages through the session: the rows are
new, but the session hands out the object it has, with its old text. The value is older than any
snapshot of that moment: published under it, it would be wrong for good.
"""

from __future__ import annotations

import pytest
from sqlalchemy import select
from sqlalchemy.orm import DeclarativeBase, Session

from coherent_cache import cached

from ..workers import Worker, page


class Base(DeclarativeBase):
    pass


class Page(Base):
    __table__ = page


class Texts:
    """Computes from ORM objects of a session that lives longer than the retriever."""

    def __init__(self, env: Worker, session: Session) -> None:
        self.env = env
        self.session = session

    @cached
    def texts(self) -> tuple[str, ...]:
        return tuple(found.text for found in self.session.scalars(select(Page)))


def _change(worker: Worker, texts: Texts, text: str) -> None:
    """A commit of another process."""
    with worker.cache_manager.begin() as connection:
        connection.execute(page.update().values(text=text))
        worker.cache_manager.invalidate(Texts.texts.key_of(texts))


@pytest.mark.on("sqlite-wal", "postgresql", "mariadb")
@pytest.mark.parametrize("expire_on_commit", [True, False])
def test_case_06_identity_map(worker: Worker, other: Worker, expire_on_commit: bool) -> None:
    worker.write("a", "old")
    manager = worker.cache_manager
    with Session(worker.engine, expire_on_commit=expire_on_commit) as session:
        texts = Texts(worker, session)
        with manager.request():
            kept = session.scalars(select(Page)).all()
            assert [found.text for found in kept] == ["old"]
            if not expire_on_commit:
                session.commit()
            _change(other, texts, "new")
            with manager.request():  # begins after the commit: looks at the ledger again
                _ = texts.texts  # from the objects that the session has
        with Session(worker.engine) as fresh, manager.request():
            assert Texts(worker, fresh).texts == ("new",)


@pytest.mark.on("sqlite-wal", "postgresql", "mariadb")
def test_a_session_opened_before_the_first_read_still_fills_the_cache(worker: Worker) -> None:
    """The ordinary request: the session reads first, then a cached attribute is read."""
    worker.write("a", "old")
    with worker.cache_manager.request(), Session(worker.engine) as session:
        session.scalars(select(Page)).all()
        assert Texts(worker, session).texts == ("old",)
    with worker.cache_manager.request() as view, Session(worker.engine) as session:
        assert Texts(worker, session).texts == ("old",)
        assert (view.hits, view.misses) == (1, 0)
