"""Whatever is given as a key or read from the table: an answer, or a `KeyTypeError`."""

from __future__ import annotations

import enum
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from coherent_cache import KeyTypeError, make_key
from coherent_cache.keys import check_key, from_stored, key_hash, part_text, to_stored

fuzz = settings(
    max_examples=400,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)

any_text = st.text(st.characters(exclude_categories=()))
#: Text in which the signs that mean something to the encoding are common.
hostile_text = st.text(st.sampled_from("\x1b\x00\\'\"[](),ub0123456789abcdef\ud800\udfff\u2028é "))


class Color(enum.Enum):
    RED = "red"
    PAIR = (1, "red")
    NOTHING = None


class Hostile:
    """Not a key part, and in a temper about it."""

    def __repr__(self) -> str:
        return "'] --"


anything = st.recursive(
    st.one_of(
        any_text,
        hostile_text,
        st.integers(),
        st.integers(min_value=2**1020, max_value=2**1030),
        st.floats(),
        st.complex_numbers(),
        st.binary(),
        st.booleans(),
        st.none(),
        st.decimals(),
        st.fractions(),
        st.uuids(),
        st.dates(),
        st.times(timezones=st.timezones()),
        st.datetimes(timezones=st.one_of(st.none(), st.timezones())),
        st.timedeltas(),
        st.sampled_from([*Color, Hostile(), object, Ellipsis]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.integers(), inner, max_size=2),
    ),
    max_leaves=6,
)


@fuzz
@given(any_text, st.lists(anything, max_size=3))
def test_a_key_or_its_error(prefix: str, parts: list[Any]) -> None:
    try:
        key = make_key(prefix, *parts)
    except KeyTypeError:
        return
    assert key == make_key(prefix, *parts)
    assert key.startswith(prefix)
    stored = to_stored(key)
    assert from_stored(stored) == key
    stored.encode()
    assert "\x00" not in stored
    key_hash(stored)


@fuzz
@given(anything)
def test_no_part_breaks_out_of_its_brackets(part: Any) -> None:
    """An attacker who chooses a part chooses no other part, and no line of a log."""
    try:
        text = part_text(part)
    except KeyTypeError:
        return
    assert not set(text) & set("\n\r\x00\x1b\u2028\u2029")
    for other in ("", "x", ("x",), 5):
        assert make_key("p", part, other) != make_key("p", part)
        assert make_key("p", (part, other)) != make_key("p", part, other)


@fuzz
@given(hostile_text, hostile_text)
@example("\x1b001b", "\x1b")
def test_hostile_text_is_never_another_one(one: str, two: str) -> None:
    assert (part_text(one) == part_text(two)) == (one == two)
    assert (to_stored(one) == to_stored(two)) == (one == two)
    assert from_stored(to_stored(one)) == one


@fuzz
@given(st.one_of(any_text, hostile_text))
@example("\x1bzzzz")
@example("\x1b")
@example("\x1bd800")
def test_whatever_stands_in_the_table_is_read(text: str) -> None:
    """Somebody else may have written it: it names some key, and raises nothing."""
    assert isinstance(from_stored(text), str)


@fuzz
@given(anything)
def test_a_raw_key(key: Any) -> None:
    try:
        assert check_key(key) is key
    except KeyTypeError:
        assert not isinstance(key, str)
