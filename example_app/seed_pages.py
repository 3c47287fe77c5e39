"""The texts that the example brings along itself, next to the topics of the standard library."""

from __future__ import annotations

from typing import TypedDict


class FirstSettings(TypedDict):
    """The settings a fresh wiki starts with."""

    title: str
    tagline: str
    accent: str
    front_page: str
    max_kib: int


SETTINGS: FirstSettings = {
    "title": "Python Topics",
    "tagline": "The help that comes with Python, as a wiki anyone may edit",
    "accent": "#1f6f5c",
    "front_page": "Welcome",
    "max_kib": 256,
}

# "topic; topic": topics that this Python does not have are left out.
WELCOME_GROUPS = {
    "Values": "objects; types; numbers; strings; typesseq; typesmapping; truth",
    "Expressions": "operator-summary; lambda; calls; slicings; comparisons; booleans; await",
    "Statements": "assignment; if; for; while; try; with; import; raise; del",
    "Definitions": "function; class; async; context-managers; specialnames",
    "Behind the scenes": "execmodel; naming; dynamic-features; exceptions; debugger; formatstrings",
}

NAVIGATION_GROUPS = {
    "Start here": "objects; execmodel; types; exceptions",
    "Write": "assignment; function; class; with; try; for",
    "Look up": "operator-summary; string-methods; formatstrings; specialnames; debugger",
    "This wiki": "How coherency shows; How to write",
}

WELCOME = """\
These are the help topics that every Python carries with it, turned into a wiki. Several
worker processes serve it, and each keeps what it has computed; the line at the foot of
every page tells which one answered and how little it had to do.

**Try it:** open a page in two windows, edit it in one and reload the other until another
worker answers. [[How coherency shows]] explains what you see.

{groups}
"""

PAGES = {
    "How coherency shows": """\
Each worker process keeps the page index, the navigation, the settings, every rendered
article and every list of backlinks in its own memory. Nothing in there has a time to
live, and no worker talks to another. Still, a page is never older than the last edit.

## The line at the foot

| It says | It means |
| --- | --- |
| **worker** | which of the processes answered this request |
| **hits** | values that were in its memory already |
| **from the tier** | values that another worker had computed, if the wiki has a shared tier |
| **misses** | values it computed just now, because they were new or had been changed |
| **check** | the time it took to ask the database what had changed since it last asked |

## See it happen

1. Open an article and reload until its misses are 0: this worker knows it now.
2. Edit it in a second window.
3. Reload the first one. Whichever worker answers, it has the new text, and it computed
   only what that edit changed: the rest are hits.

## How it is done

The code says `@cached` where a value is computed, and `del` where it is changed:

```python
class Article:
    @cached("name")
    def backlinks(self): ...

def save(base, text):
    ...                      # write the page, in db.session
    del article.backlinks    # commits, or rolls back, with it
```

The `del` is written to a table in the same transaction as the edit. Every request begins
with one look at what is new in that table, and sees the world as of that look.
""",
    "How to write": """\
Text is written in Markdown. HTML is shown, not obeyed.

| You write | You get |
| --- | --- |
| `*leaning*`, `**strong**` | *leaning*, **strong** |
| `` `code` `` | `code` |
| `[[Comparisons]]` | [[Comparisons]] |
| `[[Comparisons\\|comparing]]` | [[Comparisons\\|comparing]] |
| `[[A page to be written]]` | [[A page to be written]] |
| `<https://www.python.org>` | <https://www.python.org> |

## Blocks

A line that begins with `#`, `##` or `###` is a heading, one with `*` or `1.` an item of a
list, one with `>` a quotation. A block between lines of three backticks is code.

## Pages that lead elsewhere

A page whose whole text is `#redirect [[Another page]]` leads there. Renaming a page leaves
one behind, so that no link breaks.

## The navigation

The navigation is the page [[Navigation]]: its headings are the groups, the links below
them the entries.
""",
}
