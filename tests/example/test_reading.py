"""Pages that are read: each answers, and shows what it is for."""

from __future__ import annotations

import re

import pytest
from flask import Flask
from sqlalchemy import func, select
from sqlalchemy.exc import OperationalError

from example_app import edits
from example_app.models import Link, Page, db

from .conftest import PAGES
from .person import Person


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/", "Python Topics The help that comes with Python"),
        ("/wiki/The_with_statement", "Read Edit History Rename Delete The with statement"),
        ("/pages", f"{PAGES} pages"),
        ("/search?q=context+manager", "With Statement Context Managers"),
        ("/search", "Type one or more words"),
        ("/recent", "Changes"),
        ("/recent?before=3", "created"),
        ("/history/Lambdas", "Version 1 created"),
        ("/revision/1", "Version 1, created"),
        ("/new", "New page Name"),
        ("/edit/Lambdas", "What did you change?"),
        ("/edit/Nothing_yet", "New page Nothing yet"),
        ("/rename/Lambdas", "New name"),
        ("/delete/Lambdas", "Delete this page"),
        ("/settings", "Largest text, in KiB"),
    ],
)
def test_page_answers(person: Person, path: str, words: str) -> None:
    answer = person.get(path)
    assert answer.status == 200
    assert words in answer.words
    assert "What does this say?" in answer.words


def test_articles_link_to_each_other(app: Flask, person: Person) -> None:
    with app.app_context():
        dangling = select(func.count()).where(Link.target.not_in(select(Page.name)))
        assert db.session.scalar(select(func.count()).select_from(Link)) > 200
        # Two examples of links that lead nowhere are in the page that explains them.
        assert db.session.scalar(dangling) == 1
    article = person.get("/wiki/The_with_statement")
    assert '<a href="/wiki/With_Statement_Context_Managers">' in article.main
    back = person.get("/wiki/With_Statement_Context_Managers")
    assert "What links here" in back.words
    assert '<a href="/wiki/The_with_statement">' in back.main


def test_every_article_renders(app: Flask, person: Person) -> None:
    with app.app_context():
        names = list(db.session.scalars(select(Page.name)))
    addresses = re.findall(r'<li><a href="(/wiki/[^"]+)"', person.get("/pages").main)
    assert len(addresses) == len(names)
    for address in addresses:
        assert person.get(address).status == 200


def test_foot_tells_what_happened(person: Person) -> None:
    first = person.get("/wiki/Lambdas")
    again = person.get("/wiki/Lambdas")
    assert first.misses > 0
    assert again.misses == 0
    assert re.search(r"worker pid \d+ \d+ hits 0 misses check (\d+ µs|\d+\.\d ms)", again.words)
    assert again.worker.startswith("pid ")


def test_edit_recomputes_only_what_it_changed(person: Person) -> None:
    for page in ("Lambdas", "Calls", "Exceptions"):
        person.get(f"/wiki/{page}")
    person.write("/edit/Lambdas", "Short. See [[Calls]].")
    assert person.get("/wiki/Exceptions").misses == 0
    assert person.get("/wiki/Calls").misses == 1  # its backlinks: Lambdas links here now
    person.get("/wiki/Lambdas")
    assert person.get("/wiki/Lambdas").misses == 0


def test_search_is_literal(person: Person) -> None:
    assert "0 pages" in person.get("/search?q=100%25_certain").words
    assert "<script>" not in person.get("/search?q=%3Cscript%3E").main
    assert person.get("/search?q=" + "x" * 5000).status == 200


def test_search_finds_the_name_first(person: Person) -> None:
    found = re.findall(r"<h2><a[^>]*>([^<]+)</a></h2>", person.get("/search?q=lambdas").main)
    assert found[0] == "Lambdas"


def test_search_offers_to_write_what_is_missing(person: Person) -> None:
    assert 'href="/edit/Flying_circus"' in person.get("/search?q=Flying+circus").main


def test_unknown_page_offers_creation(person: Person) -> None:
    answer = person.get("/wiki/Lamdas")
    assert answer.status == 404
    assert 'href="/edit/Lamdas"' in answer.main
    assert "Did you mean Lambdas" in answer.words


def test_made_up_addresses_do_not_fill_the_cache(app: Flask, person: Person) -> None:
    person.get("/wiki/Nowhere")
    manager = app.extensions["coherent_cache"].manager
    before = manager.statistics.entries
    for number in range(20):
        person.get(f"/edit/Nowhere_{number}")
        person.get(f"/wiki/Nowhere_{number}?came_from=Nowhere")
    assert manager.statistics.entries == before


def test_security_headers(person: Person) -> None:
    for path in ("/", "/wiki/Nowhere", "/theme.css?v=1", "/static/style.css"):
        headers = person.get(path).headers
        assert "script-src 'self'" in headers["Content-Security-Policy"]
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "same-origin"


def test_nothing_inline_and_nothing_from_elsewhere(person: Person) -> None:
    for path in ("/", "/wiki/The_with_statement", "/edit/Lambdas", "/settings", "/pages"):
        html = person.get(path).text
        assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?! src=\"/static/)", html)
        assert not re.search(r"<(?:link|script|img)[^>]+(?:href|src)=\"(?!/)", html)


def test_session_cookie(app: Flask, person: Person) -> None:
    answer = person.get("/edit/Lambdas")
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    app.config["SESSION_COOKIE_SECURE"] = True
    person.cookies.clear()
    assert "Secure" in person.get("/edit/Calls").headers["Set-Cookie"]


def test_navigation_is_a_page(person: Person) -> None:
    before = person.get("/").text
    assert "Flying things" not in before
    person.write("/edit/Navigation", "## Flying things\n\n* [[Lambdas|Small functions]]\n")
    after = person.get("/wiki/Calls").words
    assert "Flying things Small functions Edit this navigation" in after


def test_redirect(person: Person) -> None:
    person.write("/edit/Anonymous_functions", "#redirect [[Lambdas]]")
    answer = person.get("/wiki/Anonymous_functions")
    assert answer.path.startswith("/wiki/Lambdas")
    assert "You came from Anonymous functions" in answer.words
    assert "Anonymous functions" in person.get("/wiki/Lambdas").words  # among what links here
    assert person.get("/wiki/Anonymous_functions?stay=1").path.endswith("stay=1")


def test_redirects_in_a_circle_end(person: Person) -> None:
    person.write("/edit/One_way", "#redirect [[Other way]]")
    person.write("/edit/Other_way", "#redirect [[One way]]")
    answer = person.get("/wiki/One_way")
    assert answer.status == 200
    assert "leads to another one" in answer.words


def test_race_codes_are_known() -> None:
    class DriverError(Exception):
        sqlstate = "40001"

    assert edits._lost_a_race(OperationalError("", {}, DriverError()))
    assert edits._lost_a_race(OperationalError("", {}, Exception(1020, "changed")))
    assert not edits._lost_a_race(OperationalError("", {}, Exception(2006, "gone away")))
