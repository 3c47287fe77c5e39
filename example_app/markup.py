"""The wiki's markup: CommonMark with tables and ``[[links]]``, and no HTML of one's own.

What a text renders to depends on that text alone. Whether a link leads to a page that
exists is decided when the page is shown: otherwise creating one page would have to
invalidate every article that mentions it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererProtocol
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict
from markupsafe import Markup, escape

from .names import InvalidNameError, clean_name

# [[target]] or [[target|label]]; a backslash makes |, ] and itself plain characters. The
# lengths are bounded, or a text of nothing but brackets would take minutes.
_LINK = re.compile(r"\[\[((?:\\.|[^\]\\|\n]){1,250})(?:\|((?:\\.|[^\]\\\n]){1,250}))?\]\]")
_REDIRECT = re.compile(r"\s*#redirect\s+(\[\[.+\]\])\s*\Z", re.IGNORECASE)
_BRACKETS = re.compile(r"\[+")
_BACKSLASH = re.compile(r"\\(.)")
# markdown-it replaces every NUL of the text, so this mark can only be our own.
_MARK = re.compile("\0(\\d+)\0")


@dataclass(frozen=True)
class WikiLink:
    """A link to a page, existing or not."""

    target: str
    label: str


@dataclass(frozen=True)
class Heading:
    """A heading of an article, for its table of contents."""

    level: int
    text: str
    anchor: str


@dataclass(frozen=True)
class Rendered:
    """A text as HTML, cut where its wiki links go: one more piece than there are links."""

    pieces: tuple[str, ...]
    links: tuple[WikiLink, ...]
    headings: tuple[Heading, ...]

    def html(self, existing: Collection[str], url_of: Callable[[str], str]) -> Markup:
        """Return the HTML, each link marked if it leads to no page yet."""
        parts = [self.pieces[0]]
        for link, piece in zip(self.links, self.pieces[1:], strict=True):
            missing = "" if link.target in existing else ' class="missing" title="No such page yet"'
            parts.append(
                f'<a href="{escape(url_of(link.target))}"{missing}>{escape(link.label)}</a>'
            )
            parts.append(piece)
        return Markup("".join(parts))

    @property
    def targets(self) -> frozenset[str]:
        """The names this text links to."""
        return frozenset(link.target for link in self.links)


def render(text: str) -> Rendered:
    """Render a text; costs milliseconds for long ones, which is why articles are cached."""
    env: EnvType = {"links": [], "headings": [], "anchors": {}}
    html = _markdown.render(text, env)
    pieces, links = [], []
    position = 0
    for mark in _MARK.finditer(html):
        pieces.append(html[position : mark.start()])
        links.append(env["links"][int(mark[1])])
        position = mark.end()
    pieces.append(html[position:])
    return Rendered(tuple(pieces), tuple(links), tuple(env["headings"]))


def redirect_target(text: str) -> str | None:
    """Return where a page that is nothing but ``#redirect [[Name]]`` leads, else None."""
    match = _REDIRECT.match(text)
    link = match and parse_link(match[1])
    return link.target if link else None


def redirect_text(target: str) -> str:
    """Return the text of a page that leads to `target`."""
    return f"#redirect {link_text(target)}\n"


def link_text(target: str, label: str | None = None) -> str:
    """Write a link so that it survives whatever characters the name holds."""
    escaped = re.sub(r"([\\|\[\]])", r"\\\1", target)
    if label is None or label == target:
        return f"[[{escaped}]]"
    escaped_label = re.sub(r"([\\\[\]])", r"\\\1", label)
    return f"[[{escaped}|{escaped_label}]]"


def parse_link(source: str) -> WikiLink | None:
    """Read ``[[...]]`` at the start of `source`; None if it is no link to a possible page."""
    match = _LINK.match(source)
    return _link_from(match) if match else None


def _link_from(match: re.Match[str]) -> WikiLink | None:
    target, label = (_BACKSLASH.sub(r"\1", part or "").strip() for part in match.groups())
    try:
        target = clean_name(target)
    except InvalidNameError:
        return None
    return WikiLink(target, label or target)


def _wiki_link_rule(state: StateInline, silent: bool) -> bool:
    match = _LINK.match(state.src, state.pos, state.posMax)
    link = _link_from(match) if match else None
    if match is None or link is None:
        return _pass_over_brackets(state)
    if not silent:
        token = state.push("wiki_link", "", 0)
        token.meta = {"link": link}
        token.content = link.label
    state.pos = match.end()
    return True


def _pass_over_brackets(state: StateInline) -> bool:
    """Take brackets that nothing closes as text, or the rule for links tries each of them."""
    if state.src[state.pos] != "[" or state.src.find("]", state.pos, state.posMax) >= 0:
        return False
    brackets = _BRACKETS.match(state.src, state.pos)
    assert brackets is not None
    state.pending += brackets[0]
    state.pos = brackets.end()
    return True


def _render_wiki_link(
    self: RendererProtocol, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType
) -> str:
    env["links"].append(tokens[idx].meta["link"])
    return f"\0{len(env['links']) - 1}\0"


def _render_heading_open(
    self: RendererProtocol, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType
) -> str:
    """Give each heading an anchor; prefixed, so that it never meets an id of the layout."""
    words = "".join(token.content for token in tokens[idx + 1].children or ())
    slug = "s-" + ("-".join(re.findall(r"\w+", words.lower())) or "section")
    taken: dict[str, int] = env["anchors"]
    anchor = slug
    while anchor in taken:
        taken[slug] += 1
        anchor = f"{slug}-{taken[slug]}"
    taken[anchor] = 1
    tag = tokens[idx].tag
    env["headings"].append(Heading(int(tag[1]), words, anchor))
    return f'<{tag} id="{escape(anchor)}">'


def _render_link_open(
    self: RendererProtocol, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType
) -> str:
    """Mark links that leave the wiki, and tell search engines not to follow what anyone wrote."""
    href = str(tokens[idx].attrGet("href") or "")
    return f'<a href="{escape(href)}" class="external" rel="nofollow noopener noreferrer">'


def _build() -> MarkdownIt:
    # html=False escapes markup in the text; javascript:, data: and the like are refused
    # as link targets by markdown-it itself. Images would come from other sites: no.
    markdown = (
        MarkdownIt("commonmark", {"html": False})
        .enable(["table", "strikethrough"])
        .disable("image")
    )
    markdown.inline.ruler.before("link", "wiki_link", _wiki_link_rule)
    markdown.add_render_rule("wiki_link", _render_wiki_link)
    markdown.add_render_rule("heading_open", _render_heading_open)
    markdown.add_render_rule("link_open", _render_link_open)
    return markdown


_markdown = _build()
