"""Makes any accent colour readable: on paper by day, on slate by night."""

from __future__ import annotations

import re

PAPER = "#fbfaf7"
SLATE = "#17191b"
# Contrast ratios; WCAG AA asks for 4.5. On a dark ground colours look duller, so they get more.
_ENOUGH_ON_PAPER = 4.6
_ENOUGH_ON_SLATE = 7.5
_HEX = re.compile(r"#[0-9a-fA-F]{6}\Z")

_Rgb = tuple[float, float, float]


def is_colour(text: str) -> bool:
    """Tell whether a text is a colour of the form ``#rrggbb``."""
    return bool(_HEX.match(text))


def readable(colour: str, background: str) -> str:
    """Return the colour, shifted towards black or white until it can be read on the background."""
    rgb, back = _rgb(colour), _rgb(background)
    by_day = _luminance(back) > 0.5
    towards: _Rgb = (0, 0, 0) if by_day else (1, 1, 1)
    enough = _ENOUGH_ON_PAPER if by_day else _ENOUGH_ON_SLATE
    for step in range(101):
        share = step / 100
        red, green, blue = (a + (b - a) * share for a, b in zip(rgb, towards, strict=True))
        if contrast((red, green, blue), back) >= enough:
            break
    return "#" + "".join(f"{round(part * 255):02x}" for part in (red, green, blue))


def contrast(one: _Rgb, other: _Rgb) -> float:
    """Return the contrast ratio of two colours, 1 to 21, as WCAG defines it."""
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


def _rgb(colour: str) -> _Rgb:
    red, green, blue = (int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5))
    return red, green, blue


def _luminance(rgb: _Rgb) -> float:
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in rgb
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
