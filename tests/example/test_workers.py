"""Four worker processes on each database: what one of them saves, the others show at once."""

from __future__ import annotations

import os
import re
import signal
import threading
from collections.abc import Callable

import pytest
from sqlalchemy import URL, create_engine, text
from sqlalchemy.pool import NullPool

from ..databases import service_url
from .conftest import SERVERS
from .person import Answer, Person
from .serving import WORKERS, Server, until


def everywhere(server: Server, path: str, holds: Callable[[Answer], bool]) -> None:
    """The very next answer of each worker must be right."""
    heard = server.everyone(path)
    assert len(heard) == WORKERS
    wrong = {worker: answer.words for worker, answer in heard.items() if not holds(answer)}
    assert not wrong


def test_an_edit_is_in_the_next_answer_of_every_worker(server: Server) -> None:
    person = server.person()
    for path in ("/wiki/Calls", "/wiki/Lambdas", "/pages", "/"):
        server.everyone(path)  # every worker has it in memory now
    for number in range(3):
        person.write("/edit/Calls", f"Edit number {number}. See [[Lambdas]] and [[Page {number}]].")
        everywhere(server, "/wiki/Calls", lambda a, n=number: f"Edit number {n}." in a.words)
        everywhere(server, "/wiki/Lambdas", lambda a: "/wiki/Calls" in a.main)
        missing = f'/wiki/Page_{number}" class="missing"'
        everywhere(server, "/wiki/Calls", lambda a, m=missing: m in a.main)
        person.write(f"/edit/Page_{number}", "Here.")
        everywhere(server, "/wiki/Calls", lambda a, m=missing: m not in a.main)
        everywhere(server, "/pages", lambda a, n=number: f"/wiki/Page_{n}" in a.main)


def test_everything_else_that_is_cached_follows_too(server: Server) -> None:
    person = server.person()
    person.write("/edit/Moving", "It moves. See [[Comparisons]].")
    everywhere(server, "/wiki/Comparisons", lambda a: "/wiki/Moving" in a.main)
    assert person.fill("/rename/Moving", new_name="Moved").path == "/wiki/Moved"
    everywhere(server, "/wiki/Comparisons", lambda a: "/wiki/Moved" in a.main)
    everywhere(server, "/wiki/Comparisons", lambda a: "/wiki/Moving" not in a.main)
    everywhere(
        server, "/wiki/Moving", lambda a: a.headers.get("Location", "")[:11] == "/wiki/Moved"
    )
    person.fill("/delete/Moved")
    everywhere(server, "/wiki/Moved", lambda a: a.status == 404)
    everywhere(server, "/wiki/Comparisons", lambda a: "/wiki/Moved" not in a.main)
    person.write("/edit/Navigation", "## Short way\n\n* [[Calls]]\n")
    everywhere(server, "/wiki/Comparisons", lambda a: "Short way" in a.words)
    person.fill("/settings", title="Another name", accent="#7a1f5c")
    everywhere(server, "/wiki/Comparisons", lambda a: "Another name" in a.words)
    everywhere(server, "/theme.css", lambda a: "#7a1f5c" in a.text)


def test_a_worker_that_knows_a_page_computes_nothing(server: Server) -> None:
    server.everyone("/wiki/Exceptions")
    everywhere(server, "/wiki/Exceptions", lambda a: a.misses == 0)
    server.person().write("/edit/Slicings", "Short.")
    everywhere(server, "/wiki/Exceptions", lambda a: a.misses == 0)


def test_of_editors_at_once_one_saves_and_the_others_are_told(server: Server) -> None:
    people = [server.person() for _ in range(WORKERS)]
    for turn in range(3):
        forms = [each.get("/edit/Shifting_operations").form() for each in people]
        start = threading.Barrier(len(people))
        answers: dict[int, Answer] = {}

        def save(number: int, person: Person) -> None:
            form, gate, heard = forms[number], start, answers  # noqa: B023
            gate.wait(30)
            heard[number] = person.send(form, text=f"By {number} in {turn}.", action="save")  # noqa: B023

        threads = [threading.Thread(target=save, args=pair) for pair in enumerate(people)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        saved = [number for number, answer in answers.items() if answer.status == 200]
        assert len(saved) == 1, {number: answer.status for number, answer in answers.items()}
        for number, answer in answers.items():
            assert answer.status == (200 if number in saved else 409)
            assert f"By {number} in {turn}." in answer.text  # nobody's text is lost
        everywhere(
            server,
            "/wiki/Shifting_operations",
            lambda a, s=saved[0], t=turn: f"By {s} in {t}." in a.words,
        )


def test_a_killed_worker_is_replaced_by_one_that_knows(server: Server) -> None:
    person = server.person()
    before = person.write("/edit/Literals", "Before the fall.")
    victim = re.fullmatch(r"(\d+) \(pid (\d+)\)", before.worker)
    assert victim
    os.kill(int(victim[2]), signal.SIGKILL)
    until(lambda: server.log.read_text().count("Booting worker") > WORKERS or None)
    everywhere(server, "/wiki/Literals", lambda a: "Before the fall." in a.words)
    heard = server.everyone("/wiki/Literals")
    assert sorted(worker.split()[0] for worker in heard) == ["1", "2", "3", "4"]
    assert before.worker not in heard


def test_far_too_much_gets_a_page_not_a_cut_line(server: Server) -> None:
    answer = server.person().fill("/edit/Lambdas", text="x" * (6 * 1024 * 1024))
    assert answer.status == 413
    assert "That is too much at once" in answer.words


@pytest.mark.parametrize("server", [SERVERS["postgresql"], SERVERS["mariadb"]], indirect=True)
def test_cut_connections(server: Server) -> None:
    """Every connection of the workers is ended by the server, and none accepted for a while."""
    assert server.url is not None
    person = server.person()
    person.write("/edit/Lambdas", "Before.")
    server.everyone("/wiki/Lambdas")
    refuse(server.url)
    try:
        # MariaDB accepts new connections at once: nobody notices.
        expected = 503 if server.url.get_backend_name() == "postgresql" else 200
        everywhere(server, "/wiki/Lambdas", lambda a: a.status == expected)
    finally:
        accept(server.url)
    everywhere(server, "/wiki/Lambdas", lambda a: "Before." in a.words)
    person.write("/edit/Lambdas", "After.")
    everywhere(server, "/wiki/Lambdas", lambda a: "After." in a.words)


def refuse(url: URL) -> None:
    """End every connection; PostgreSQL also takes no new ones until `accept`."""
    if url.get_backend_name() == "postgresql":
        administer("postgresql", f"ALTER DATABASE {url.database} ALLOW_CONNECTIONS false")
        backends = f"pg_stat_activity WHERE datname = '{url.database}'"
        administer("postgresql", f"SELECT pg_terminate_backend(pid) FROM {backends}")
        return
    mine = f"information_schema.processlist WHERE db = '{url.database}'"
    for number in administer("mariadb", f"SELECT id FROM {mine}"):
        administer("mariadb", f"KILL CONNECTION {number}")


def accept(url: URL) -> None:
    """Let the database be connected to again."""
    if url.get_backend_name() == "postgresql":
        administer("postgresql", f"ALTER DATABASE {url.database} ALLOW_CONNECTIONS true")


def administer(kind: str, statement: str) -> list[object]:
    engine = create_engine(service_url(kind), poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        result = connection.execute(text(statement))
        return list(result.scalars()) if result.returns_rows else []
