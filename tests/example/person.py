"""Somebody who uses the wiki: opens pages, fills in their forms, keeps the cookie."""

from __future__ import annotations

import http.client
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from html import unescape
from html.parser import HTMLParser
from urllib.parse import urlencode, urlsplit

from flask.testing import FlaskClient


@dataclass
class Form:
    """A form of a page, as it would be sent."""

    action: str
    method: str
    values: dict[str, str] = field(default_factory=dict)


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    text: str
    path: str

    @property
    def worker(self) -> str:
        return self.headers["X-Worker"]

    @property
    def words(self) -> str:
        """The text that a reader sees, on one line."""
        without_tags = re.sub(r"<(script|style).*?</\1>|<[^>]+>", " ", self.text, flags=re.DOTALL)
        return " ".join(unescape(without_tags).split())

    @property
    def misses(self) -> int:
        found = re.search(r"(\d+) miss", self.words)
        assert found, "the foot of the page is missing"
        return int(found[1])

    @property
    def main(self) -> str:
        """The HTML of the page without its frame."""
        return self.text.split('<main id="content"', 1)[1].split("</main>", 1)[0]

    def form(self) -> Form:
        """The form in the page that is sent by POST."""
        reader = _FormReader()
        reader.feed(self.text)
        return next(form for form in reader.forms if form.method == "post")


Transport = Callable[[str, str, dict[str, str], bytes], tuple[int, list[tuple[str, str]], bytes]]


class Person:
    """One browser's worth of state, over any transport."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self.cookies: dict[str, str] = {}

    def get(self, path: str) -> Answer:
        return self._follow("GET", path, b"")

    def post(self, path: str, **values: str) -> Answer:
        return self._follow("POST", path, urlencode(values).encode())

    def send(self, form: Form, **values: str) -> Answer:
        return self.post(form.action, **{**form.values, **values})

    def fill(self, path: str, **values: str) -> Answer:
        """Open a page and send its form with these values changed."""
        return self.send(self.get(path).form(), **values)

    def write(self, path: str, text: str) -> Answer:
        """Save a text in the editor at this path; it must be saved."""
        answer = self.fill(path, text=text, action="save")
        assert answer.status == 200, answer.words
        assert "Saved." in answer.words
        return answer

    def _follow(self, method: str, path: str, body: bytes) -> Answer:
        for _ in range(5):
            answer = self.once(method, path, body)
            if answer.status not in (302, 303):
                return answer
            method, body = "GET", b""
            parts = urlsplit(answer.headers["Location"])
            path = parts.path + (f"?{parts.query}" if parts.query else "")
        raise AssertionError("it leads in a circle")

    def once(self, method: str, path: str, body: bytes = b"") -> Answer:
        headers = {"Cookie": "; ".join(f"{k}={v}" for k, v in self.cookies.items())}
        if body:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        status, received, data = self._transport(method, path, headers, body)
        for name, value in received:
            if name.lower() == "set-cookie":
                key, _, rest = value.partition("=")
                self.cookies[key] = rest.split(";")[0]
        return Answer(status, dict(received), data.decode(), path)


def through(client: FlaskClient) -> Person:
    """Somebody who uses the application within this process."""

    def transport(
        method: str, path: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        with client.open(path, method=method, headers=headers, data=body) as response:
            return response.status_code, list(response.headers), response.data

    return Person(transport)


def over_http(port: int) -> Person:
    """Somebody who uses a server, with a new connection for every request."""

    def transport(
        method: str, path: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        try:
            connection.request(method, path, body or None, headers)
            response = connection.getresponse()
            return response.status, response.getheaders(), response.read()
        finally:
            connection.close()

    return Person(transport)


class _FormReader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self._textarea: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.forms.append(Form(given["action"], given.get("method", "get")))
        elif tag == "textarea" and "name" in given:
            self._textarea = given["name"]
            self.forms[-1].values[self._textarea] = ""
        elif (
            tag == "input"
            and "name" in given
            and (given.get("type") != "checkbox" or "checked" in given)
        ):
            self.forms[-1].values[given["name"]] = given.get("value", "on")

    def handle_data(self, data: str) -> None:
        if self._textarea is not None:
            values = self.forms[-1].values
            first = not values[self._textarea]
            values[self._textarea] += data.removeprefix("\n") if first else data

    def handle_endtag(self, tag: str) -> None:
        if tag == "textarea":
            self._textarea = None
