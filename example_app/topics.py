"""Turns the standard library's help topics into articles with real links between them.

``pydoc_data.topics`` holds chapters of Python's reference as plain text, the way Sphinx
writes it: headings underlined, code indented, literals in double quotes, and cross
references as bare section titles ("see section Function definitions"). The titles are
known, so the links can be found again.
"""

from __future__ import annotations

import pydoc
import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from itertools import pairwise

from .markup import link_text
from .names import MAX_NAME

_UNDERLINE = re.compile(r"([*=\-^~\"])\1+\Z")
_LEVELS = {"*": "#", "=": "##", "-": "###", "^": "####", "~": "#####", '"': "######"}
_ITEM = re.compile(r"(\* |- |\d+\. )")
_ADMONITION = re.compile(
    r"(Note|See also|Warning|Tip|Hint|CPython implementation detail|Changed in version.*|"
    r"Added in version.*|New in version.*|Deprecated since.*):\Z"
)
_TERM = re.compile(
    r"(class |exception |async |@)?[\w.!%$]+(\(.*\)|(\.\w+)+)?(\[.*\])?( .{0,40})?\Z"
)
_SENTENCE = re.compile(r'[*"(“]*[A-Z][^=]*?[a-z]["*”]*[,:]? [“"*(]*[\w].*')


def articles(topics: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the name and the text of an article for each topic."""
    book = _Book(topics)
    for key, text in topics.items():
        if book.names[key] and book.owner[book.names[key]] == key:
            yield book.names[key], _Article(book, key, text).markup()


def names_by_topic(topics: Mapping[str, str]) -> Mapping[str, str]:
    """Return which article each topic became: two topics of one text are one article."""
    return _Book(topics).names


class _Book:
    """What the topics have in common: their names, and which titles lead where."""

    def __init__(self, topics: Mapping[str, str]) -> None:
        self.topics = topics
        self.owner: dict[str, str] = {}
        self.names = {key: self._name(key, text) for key, text in topics.items()}

    def _name(self, key: str, text: str) -> str:
        title = plain(text.strip().split("\n", 1)[0])[:MAX_NAME].strip() or key.capitalize()
        owner = self.owner.setdefault(title, key)
        if owner != key and self.topics[owner] != text:
            title = f"{title} ({key})"[:MAX_NAME]
            self.owner[title] = key
        return title

    @cached_property
    def titles(self) -> Mapping[str, str]:
        """Every title of a chapter or a section of one, and the article it is in."""
        found: dict[str, str] = {}
        for key, text in self.topics.items():
            found[plain(text.split("\n", 1)[0])] = self.names[key]
        for key, text in self.topics.items():
            lines = text.split("\n")
            for title, line in pairwise(lines):
                if _is_heading(title, line) and len(title.split()) > 1:
                    found.setdefault(plain(title), self.names[key])
        return found

    @cached_property
    def title_pattern(self) -> str:
        """Matches a title of several words anywhere, one of a single word after "section"."""
        ordered = sorted(self.titles, key=len, reverse=True)
        phrases = "|".join(re.escape(title) for title in ordered if " " in title)
        words = "|".join(re.escape(title) for title in ordered if " " not in title)
        return rf"\b(?:{phrases})\b|(?<=section )(?:{words})\b"

    def related(self, key: str) -> list[str]:
        """Return the names of the articles that pydoc itself calls related."""
        helper = pydoc.Helper
        entries = {**helper.topics, **helper.keywords}
        related: dict[str, None] = {}
        for entry in entries.values():
            if isinstance(entry, tuple) and entry[0] == key:
                for word in entry[1].split():
                    target = entries.get(word)
                    while isinstance(target, str) and target in entries:
                        target = entries[target]
                    if isinstance(target, tuple) and target[0] in self.names:
                        related[self.names[target[0]]] = None
        related.pop(self.names[key], None)
        return list(related)


class _Article:
    """The conversion of one topic."""

    def __init__(self, book: _Book, key: str, text: str) -> None:
        self.book = book
        self.key = key
        self.lines = text.strip("\n").split("\n")
        self._inline = re.compile(
            rf"(?P<code>\"[^\"\n]+\")|(?P<strong>\*\*[^*\n]+\*\*)|(?P<em>(?<!\w)\*[^*\s][^*\n]*\*(?!\w))"
            rf"|(?P<title>{book.title_pattern})|(?P<special>[\\`*_\[\]<>~#|])"
        )

    def markup(self) -> str:
        """Return the whole article; its first heading is the page's name and left out."""
        body = (
            self.lines[2:] if len(self.lines) > 1 and _is_heading(*self.lines[:2]) else self.lines
        )
        out = "\n\n".join(self._blocks(body))
        if related := self.book.related(self.key):
            out += "\n\n## Related\n\n" + "\n".join(f"* {link_text(name)}" for name in related)
        return out + "\n"

    def _blocks(self, lines: list[str]) -> Iterator[str]:
        previous = ""
        for block in _split_blocks(lines):
            first = block[0]
            if first.startswith(" "):
                yield self._indented(block, previous)
            elif first.startswith("+-"):
                yield self._table(block)
            elif len(block) > 1 and _is_heading(first, block[1]):
                yield f"{_LEVELS[block[1][0]]} {self._text(first)}"
                if rest := block[2:]:
                    yield self._text(" ".join(rest))
            elif set(first) <= {"=", "-", "─"}:
                yield "---"
            elif _ITEM.match(first):
                yield self._item(block)
            else:
                yield self._paragraph(block)
            previous = block[-1]

    def _paragraph(self, block: list[str]) -> str:
        if _ADMONITION.match(block[0]) and len(block) == 1:
            return f"**{self._text(block[0])}**"
        if all(_is_term(line) for line in block):
            return "  \n".join(f"**`{line}`**" for line in block)
        return self._text(" ".join(block))

    def _indented(self, block: list[str], previous: str) -> str:
        """Decide whether an indented block is code or prose that belongs to a term or a note."""
        inner = _dedent(block)
        prose = _is_term(previous) or _ADMONITION.match(previous) or _looks_like_prose(inner)
        if not prose or any("::=" in line for line in inner):
            return "```\n" + "\n".join(inner) + "\n```"
        quoted = "\n\n".join(self._blocks(inner))
        return "\n".join(f"> {line}".rstrip() for line in quoted.split("\n"))

    def _item(self, block: list[str]) -> str:
        """A list item; what follows it is indented by as much as its marker, as in Markdown."""
        marker = _ITEM.match(block[0])
        assert marker is not None
        width = len(marker[0])
        inner = _dedent([" " * width + block[0][width:], *block[1:]])
        body = "\n\n".join(self._blocks(inner))
        indented = "\n".join(f"{' ' * width}{line}".rstrip() for line in body.split("\n"))
        return marker[0] + indented[width:]

    def _table(self, block: list[str]) -> str:
        edges = [match.start() for match in re.finditer(r"\+", block[0])]
        rows: list[list[list[str]]] = [[[] for _ in edges[1:]]]
        for line in block[1:]:
            if line.startswith(("+", "|=")):
                rows.append([[] for _ in edges[1:]])
                continue
            for cell, (start, end) in zip(rows[-1], pairwise(edges), strict=True):
                cell.append(line[start + 1 : end].strip())
        table = [
            [self._text(" ".join(filter(None, cell)), cell=True) for cell in row] for row in rows
        ]
        table = [row for row in table if any(row)]
        head, *rest = [f"| {' | '.join(row)} |" for row in table]
        return "\n".join([head, "|" + " --- |" * (len(edges) - 1), *rest])

    def _text(self, text: str, *, cell: bool = False) -> str:
        linked: set[str] = set()

        def replace(match: re.Match[str]) -> str:
            piece = match[0]
            if match["code"]:
                piece = f"`` {piece[1:-1]} ``" if "`" in piece else f"`{piece[1:-1]}`"
                return piece.replace("|", "\\|") if cell else piece
            if match["title"]:
                name = self.book.titles[piece]
                if name == self.book.names[self.key] or name in linked:
                    return piece
                linked.add(name)
                link = link_text(name, piece)
                return link.replace("|", "\\|") if cell else link
            return f"\\{piece}" if match["special"] else piece

        return self._inline.sub(replace, text)


def plain(title: str) -> str:
    """Return a title without the quotes that mark its literals."""
    return " ".join(title.replace('"', "").split())


def _is_heading(title: str, underline: str) -> bool:
    title = title.rstrip()
    return bool(
        title and title[0] != " " and _UNDERLINE.match(underline) and len(underline) >= len(title)
    )


def _is_term(line: str) -> bool:
    line = line.strip()
    return (
        bool(_TERM.match(line))
        and any(sign in line for sign in "(._[")
        and not line.endswith((".", ":"))
    )


def _looks_like_prose(lines: list[str]) -> bool:
    return (
        bool(_SENTENCE.match(lines[0]))
        and not lines[0].startswith((">>>", "..."))
        and " = " not in lines[0]
    )


def _dedent(block: list[str]) -> list[str]:
    margin = min(len(line) - len(line.lstrip()) for line in block if line.strip())
    return [line[margin:] for line in block]


def _split_blocks(lines: list[str]) -> Iterator[list[str]]:
    """Cut at blank lines, but keep together what is indented, and items with what is theirs."""
    block: list[str] = []
    for index, line in enumerate(lines):
        if not line.strip():
            follow = next((later for later in lines[index:] if later.strip()), "")
            if block and follow.startswith(" ") and _is_open(block):
                block.append("")
            elif block:
                yield block
                block = []
        elif block and _begins_another(line, block):
            yield block
            block = [line]
        else:
            block.append(line)
    if block:
        yield block


def _is_open(block: list[str]) -> bool:
    """Tell whether indented lines after a blank one still belong to the block."""
    return block[0].startswith(" ") or bool(_ITEM.match(block[0]))


def _begins_another(line: str, block: list[str]) -> bool:
    if line.startswith(" "):
        return not _is_open(block)
    return block[0].startswith(" ") or bool(_ITEM.match(line))
