"""Line by line differences, for people."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import SequenceMatcher

_CONTEXT = 2  # unchanged lines shown around a change
_MOST_LINES = 5000  # comparing takes quadratic time at its worst


@dataclass(frozen=True)
class Line:
    """A line that was added (+), removed (-), is unchanged ( ), or stands for many left out (…)."""

    sign: str
    text: str


def compare(old: str, new: str) -> list[Line] | None:
    """Return the changed lines and some around them; None if the texts are too long to compare."""
    before, after = old.splitlines(), new.splitlines()
    if len(before) + len(after) > _MOST_LINES:
        return None
    lines: list[Line] = []
    for group in SequenceMatcher(None, before, after).get_grouped_opcodes(_CONTEXT):
        if lines or group[0][1] > 0:
            lines.append(Line("…", ""))
        for kind, old_from, old_to, new_from, new_to in group:
            if kind == "equal":
                lines += [Line(" ", text) for text in before[old_from:old_to]]
            else:
                lines += [Line("-", text) for text in before[old_from:old_to]]
                lines += [Line("+", text) for text in after[new_from:new_to]]
    return lines
