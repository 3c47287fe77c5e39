"""What people type, paste and forge: it is taken as it is, or refused in words that help."""

from __future__ import annotations

import time
from urllib.parse import urlencode

import pytest
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.exc import OperationalError

from example_app.colour import PAPER, SLATE, _rgb, contrast, readable
from example_app.markup import link_text, parse_link, redirect_target, redirect_text, render
from example_app.names import (
    MAX_NAME,
    InvalidNameError,
    clean_name,
    name_from_slug,
    slug_from_name,
)

from .person import Person

NAMES = [
    "a/b/c", "//", "..", ".", "../../etc/passwd", ".hidden", "50% off", "%2F", "what?", "#",
    "C# & F#", "'single' \"double\"", "back\\slash", "pipe|pipe", "[[brackets]]", "]]", "_",
    "under_score", "~2F", "<script>alert(1)</script>", "semi;colon, a+b=c", "emoji 🐍", "日本語",
    "Ünïcödé ß", "עברית", "e\u0301", "None", "javascript:alert(1)", "{{ 7*7 }}", "名" * MAX_NAME,
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_name_with_every_kind_of_character(person: Person, name: str) -> None:
    path = person.once("GET", "/new?" + urlencode({"name": name})).headers["Location"]
    person.write(path, f"This is it. See {link_text(name)} and [[Lambdas]].")
    page = path.replace("/edit/", "/wiki/")
    article = person.get(page)
    assert article.status == 200
    assert "This is it." in article.words
    assert 'class="missing"' not in article.main  # the link to itself was understood
    assert "What links here" in article.words
    assert f'href="{page}"' in person.get("/pages").main
    assert f'href="{page}"' in person.get("/wiki/Lambdas").main
    assert person.fill(path.replace("/edit/", "/rename/"), new_name="Plain").path == "/wiki/Plain"
    assert person.get(page).path.startswith("/wiki/Plain")
    assert person.fill("/rename/Plain", new_name=name).status == 200
    assert "This is it." in person.get(page).words
    assert person.fill(path.replace("/edit/", "/delete/")).status == 200
    assert person.get(page).status == 404


@given(st.text(min_size=1, max_size=40))
def test_no_two_names_share_an_address(raw: str) -> None:
    try:
        name = clean_name(raw)
    except InvalidNameError:
        return
    slug = slug_from_name(name)
    assert name_from_slug(slug) == name
    assert not set(slug) & set("/?#%\\ ")
    assert slug.strip(".") or slug.startswith("~")
    assert parse_link(link_text(name)).target == name  # type: ignore[union-attr]
    assert redirect_target(redirect_text(name)) == name


@pytest.mark.parametrize(
    "name",
    ["", "   ", "\u3000", "x" * (MAX_NAME + 1), "a\x00b", "bell\a", "right\u202eleft", "\ufdd0"],
)
def test_impossible_names(person: Person, name: str) -> None:
    answer = person.get("/new?" + urlencode({"name": name}))
    assert answer.status == 400
    assert 'role="alert"' in answer.main
    assert person.fill("/rename/Lambdas", new_name=name).status == 400


@pytest.mark.parametrize(
    "path", ["/wiki/a%2Fb", "/wiki/~", "/wiki/~ZZ", "/wiki/%00", "/wiki/" + "x" * 500, "/nothing"]
)
def test_impossible_addresses(person: Person, path: str) -> None:
    answer = person.get(path)
    assert answer.status == 404
    assert "Nothing here" in answer.words


def test_names_are_trimmed_and_composed() -> None:
    assert clean_name("  a \t\n b  ") == "a b"
    assert clean_name("e\u0301") == "é"


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "[x](javascript:alert(1))",
        "[x](JaVaScRiPt:alert(1))",
        "[x](data:text/html;base64,PHNjcmlwdD4=)",
        "[x](vbscript:x)",
        "<javascript:alert(1)>",
        "![x](http://example.org/pixel.png)",
        '[[Lambdas|"><script>alert(1)</script>]]',
        '[x](http://example.org/"onmouseover="alert(1))',
        "`<script>`",
        "# <script>alert(1)</script>",
        "```\n</code><script>alert(1)</script>\n```",
    ],
)
def test_script_in_the_text_is_text(person: Person, text: str) -> None:
    html = person.write("/edit/Trick", text).main.lower()
    prose = html.split('<div class="prose">')[1]
    assert "<script" not in prose
    assert "<img" not in prose
    assert 'href="javascript' not in prose
    assert 'href="data' not in prose
    assert 'href="vbscript' not in prose
    assert '"onmouseover' not in prose
    for path in ("/edit/Trick", "/history/Trick", "/recent", "/search?q=script"):
        assert "<script>alert" not in person.get(path).main.lower()


def test_script_elsewhere_is_text(person: Person) -> None:
    trick = "<script>alert(1)</script>"
    person.fill("/edit/Trick", text="x", summary=trick, action="save")
    person.fill("/settings", title=trick, tagline=trick)
    for path in ("/", "/recent", "/history/Trick", "/wiki/Trick", "/settings"):
        assert trick not in person.get(path).text


def test_too_much_text_is_given_back(person: Person) -> None:
    text = "Long. " * 50_000
    answer = person.fill("/edit/Lambdas", text=text, action="save")
    assert answer.status == 413
    assert "a page has at most 256" in answer.words
    assert answer.form().values["text"] == text
    assert "Lambda expressions" in person.get("/wiki/Lambdas").words


def test_the_limit_is_a_setting(person: Person) -> None:
    person.fill("/settings", max_kib="8")
    assert person.fill("/edit/Lambdas", text="x" * 9000, action="save").status == 413
    person.fill("/settings", max_kib="16")
    assert person.fill("/edit/Lambdas", text="x" * 9000, action="save").status == 200


def test_far_too_much(person: Person) -> None:
    answer = person.fill("/edit/Lambdas", text="x" * (5 * 1024 * 1024))
    assert answer.status == 413
    assert "That is too much at once" in answer.words


def test_empty_text(person: Person) -> None:
    answer = person.fill("/edit/Lambdas", text=" \n ", action="save")
    assert answer.status == 400
    assert "A page needs a text." in answer.words


def test_nul_and_line_ends(person: Person) -> None:
    person.write("/edit/Odd", "one\r\ntwo\rthree\0four 🐍")
    assert person.get("/edit/Odd").form().values["text"] == "one\ntwo\nthreefour 🐍"


def test_without_a_token(person: Person) -> None:
    for path in ("/edit/Lambdas", "/rename/Lambdas", "/delete/Lambdas", "/settings"):
        answer = person.post(path, text="My precious text", page_id="1", version="1")
        assert answer.status == 400
        assert "Nothing was saved" in answer.words
        assert "My precious text" in answer.text
    form = person.get("/edit/Lambdas").form()
    person.cookies.clear()
    assert person.send(form, text="x").status == 400


def test_writing_needs_post(person: Person) -> None:
    person.get("/delete/Lambdas")
    person.get("/edit/Lambdas?text=x&action=save")
    assert "Lambda expressions" in person.get("/wiki/Lambdas").words
    assert person.post("/wiki/Lambdas").status in (400, 405)


@pytest.mark.parametrize("value", ["x", "-1", "1.5", "9" * 30, "²", "2147483648"])
def test_forged_numbers(person: Person, value: str) -> None:
    for field in ("page_id", "version"):
        assert person.fill("/edit/Lambdas", text="x", **{field: value}).status == 400
    assert person.get(f"/edit/Lambdas?revision={value}").status == 200
    assert person.get(f"/recent?before={value}").status == 200
    assert person.get(f"/revision/{value}").status == 404


def test_forged_version_is_a_conflict(person: Person) -> None:
    answer = person.fill("/edit/Lambdas", text="Mine", version="99", action="save")
    assert answer.status == 409
    assert "Mine" in answer.text


def test_delete_or_rename_without_a_base(person: Person) -> None:
    for what in ("delete", "rename"):
        assert person.fill(f"/{what}/Lambdas", page_id="0", new_name="X").status == 400
        assert person.get(f"/{what}/Nowhere").status == 404


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("title", ""), ("title", "x" * 61), ("tagline", "x" * 161), ("accent", "red"),
        ("accent", "#12345"), ("accent", "#000000;}body{display:none"), ("front_page", ""),
        ("max_kib", "7"), ("max_kib", "1025"), ("max_kib", "many"), ("max_kib", ""),
    ],
)  # fmt: skip
def test_bad_settings(person: Person, field: str, value: str) -> None:
    answer = person.fill("/settings", **{field: value})
    assert answer.status == 400
    assert f'id="{field}-error"' in answer.main
    assert answer.form().values["version"] == "1"
    assert "Python Topics" in person.get("/").words


@pytest.mark.parametrize("colour", ["#ffffff", "#000000", "#ffff00", "#808080", "#0000ff"])
@pytest.mark.parametrize("ground", [PAPER, SLATE])
def test_any_accent_can_be_read(colour: str, ground: str) -> None:
    assert contrast(_rgb(readable(colour, ground)), _rgb(ground)) >= 4.5


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "[[" * 60_000,
        "# a\n" * 20_000,
        "[[a|" * 30_000,
        "> " * 50_000,
        "*a " * 40_000,
    ],
    ids=["brackets", "links", "headings", "half-links", "quotes", "stars"],
)
def test_no_text_takes_for_ever(text: str) -> None:
    start = time.monotonic()
    render(text)
    assert time.monotonic() - start < 10


def test_the_database_is_gone(app: Flask, person: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object, **__: object) -> None:
        raise OperationalError(None, None, Exception("no such host"))  # type: ignore[arg-type]

    app.testing = False
    person.get("/")
    monkeypatch.setattr("example_app.views.history.db.session.scalars", gone)
    answer = person.get("/recent")
    assert answer.status == 503
    assert "The database does not answer" in answer.words
    assert "no such host" not in answer.text
    monkeypatch.undo()
    assert person.get("/recent").status == 200
