"""Hard case 17: keys with anything in them.

Names of pages come from people, so a key may hold every character there is, any number of them, or
none; and a number next to the same digits as text.  No two of them are ever taken for one another,
in memory or in the table, and each is invalidated in the other worker as it was here.
"""

from __future__ import annotations

import datetime
import decimal
import enum
import fractions
import uuid
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from coherent_cache import KeyTypeError, make_key
from coherent_cache.keys import from_stored, key_hash, part_text, to_stored

from ..workers import Worker


class Color(enum.Enum):
    RED = 5
    ALSO_TEXT = "5"


class Number(enum.IntEnum):
    FIVE = 5


class Word(enum.StrEnum):
    FIVE = "5"


class Text(str):
    pass


class Integer(int):
    pass


ZONE = datetime.timezone(datetime.timedelta(hours=2))
ODD: list[Any] = [
    "", " ", "  ", "5", "5 ", " 5", "5.0", "True", "None", "(5,)", "a", "A", "á", "a\u0301", "ß",
    "ss", "ﬁ", "fi", "\x00", "a\x00", "a\x00b", "\x1b", "\x1b0000", "\x1b001b", "\ud800", "\udfff",
    "\ud83d\ude00", "😀", "\\", "'", "\"", "`", "%s", "%", ":x", "?", "$1", "{}", "']['", "a']['b",
    "\n", "\r\n", "\t", "\u2028", "\ufeff", "\uffff", "\U0010ffff", "x" * 100_000, "x" * 99_999,
    "漢" * 30_000,
    5, -5, 0, 2**64, 10**5000, 5.0, 0.0, 1e300, float("inf"), float("nan"), True, False,
    b"", b"5", b"\x00\xff", (), (5,), ("5",), ((5,),), (5, 5), ((5,), 5), ("a", "b"), ("a','b",),
    uuid.UUID(int=5), decimal.Decimal(5), decimal.Decimal("5.0"), fractions.Fraction(1, 5),
    datetime.date(2024, 5, 5), datetime.datetime(2024, 5, 5),
    datetime.datetime(2024, 5, 5, tzinfo=ZONE),
    datetime.datetime(2024, 5, 5, fold=1), datetime.time(5), datetime.time(5, fold=1),
    datetime.timedelta(5), datetime.timedelta(seconds=5),
    Color.RED, Color.ALSO_TEXT, Number.FIVE, Word.FIVE,
]  # fmt: skip


@pytest.mark.on("sqlite-memory", "sqlite-wal", "sqlite-journal", "postgresql", "mariadb")
def test_case_17_end_to_end(worker: Worker) -> None:
    """Every odd key, each with a value of its own, here and in another worker; then half of them
    change."""
    same_process = worker.database.kind == "sqlite-memory"
    other = worker if same_process else Worker(worker.database)
    keys = [make_key("odd", part) for part in ODD]
    keys += ["", " ", "raw", "raw ", "RAW", "råw", "\x00", "\ud800", "y" * 100_000]
    assert len(set(keys)) == len(keys)
    generation = dict.fromkeys(keys, 0)

    def load(worker: Worker, key: str) -> Any:
        return worker.cache_manager.get(key, lambda: (key, generation[key]))

    worker.cache_manager.invalidate("first row")
    for turn in range(3):
        for key in keys:
            assert load(worker, key) == load(other, key) == (key, generation[key])
        changed = keys[turn::2]
        with worker.cache_manager.begin():
            for key in changed:
                generation[key] += 1
                worker.cache_manager.invalidate(key)
        before = other.cache_manager.statistics.loads
        for key in keys:
            assert load(other, key) == (key, generation[key]), key
        # and no more than those were dropped
        assert other.cache_manager.statistics.loads - before == len(changed)


def test_case_17_a_subclass_is_the_same_key() -> None:
    """What compares and prints as text or a number is one, whoever made it."""
    assert part_text(Text("a'b")) == part_text("a'b")
    assert part_text(Integer(5)) == part_text(5)
    assert part_text((Text("a"), 5)) == part_text(("a", Integer(5)))


@pytest.mark.parametrize(
    ("part", "text"),
    [
        (True, "True"),
        (False, "False"),
        (5, "5"),
        (2**1023 - 1, str(2**1023 - 1)),
        (2**1023, hex(2**1023)),
        ("a'b\\c\n", r"'a\'b\\c\u000a'"),
        (b"\x00a", "b'0061'"),
        (5.0, "5.0"),
        ((1, "a"), "(1,'a',)"),
        (datetime.datetime(2024, 5, 5), "datetime(2024-05-05T00:00:00)"),
        (datetime.datetime(2024, 5, 5, fold=1), "datetime(2024-05-05T00:00:00~)"),
        (datetime.date(2024, 5, 5), "date(2024-05-05)"),
        (datetime.time(5), "time(05:00:00)"),
        (datetime.timedelta(1, 2, 3), "timedelta(1,2,3)"),
        (uuid.UUID(int=5), "UUID(00000000-0000-0000-0000-000000000005)"),
        (decimal.Decimal("5.0"), "Decimal(5.0)"),
        (fractions.Fraction(1, 2), "Fraction(1/2)"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_case_17_the_text_stays(part: Any, text: str) -> None:
    """While a release is rolled out processes of two of them share the table: another text would be
    another key."""
    assert part_text(part) == text


def test_case_17_the_hash_stays() -> None:
    assert key_hash("m.C.a") == 7178446796677190229
    assert key_hash("m.C.a['ä']") == -2254305531372587808


def test_case_17_none_has_an_error_of_its_own() -> None:
    with pytest.raises(KeyTypeError, match="was not flushed"):
        part_text(None)
    with pytest.raises(KeyTypeError, match=r"type builtins\.object has no stable text"):
        part_text(object())


@pytest.mark.parametrize(
    "part", [None, object(), [5], {5}, {"a": 5}, 5j, range(5), (5, None), Text]
)
def test_case_17_no_stable_text(part: Any) -> None:
    with pytest.raises(KeyTypeError):
        make_key("prefix", part)


@pytest.mark.parametrize("key", [None, 5, b"bytes", ("a",), True])
@pytest.mark.on("sqlite-memory")
def test_case_17_raw_key_is_text(worker: Worker, key: Any) -> None:
    with pytest.raises(KeyTypeError, match="make_key"):
        worker.cache_manager.get(key, lambda: 1)
    with pytest.raises(KeyTypeError, match="make_key"):
        worker.cache_manager.invalidate(key)
    with pytest.raises(KeyTypeError):
        make_key(key, "part")


any_text = st.text(st.characters(exclude_categories=()))
simple = st.one_of(
    any_text,
    st.integers(),
    st.booleans(),
    st.floats(allow_nan=False),
    st.binary(),
    st.uuids(),
    st.decimals(allow_nan=False),
    st.fractions(),
    st.dates(),
    st.datetimes(),
    st.times(),
    st.timedeltas(),
    st.sampled_from([*Color, *Number, *Word]),
)
parts = st.recursive(simple, lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=5)
quick = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


def identity(part: Any) -> Any:
    """What makes a part what it is: its type as well as its value."""
    if isinstance(part, tuple):
        return (tuple, tuple(identity(item) for item in part))
    if isinstance(part, float):
        return (float, part.hex())
    return (
        type(part),
        getattr(part, "fold", 0),
        str(part) if isinstance(part, decimal.Decimal) else part,
    )


@quick
@given(parts, parts)
def test_case_17_different_parts_have_different_text(one: Any, two: Any) -> None:
    assert (part_text(one) == part_text(two)) == (identity(one) == identity(two))


@quick
@given(any_text, any_text, any_text, any_text)
@example("a']['b", "c", "a", "b']['c")
def test_case_17_parts_do_not_run_together(a: str, b: str, c: str, d: str) -> None:
    assert (make_key("p", a, b) == make_key("p", c, d)) == ((a, b) == (c, d))
    assert make_key("p", a, b) != make_key("p", (a, b)) != make_key("p", a + b)


@quick
@given(any_text, any_text)
@example("\x00", "\ud800")
@example("\x1b0000", "\x00")
def test_case_17_stored_text(one: str, two: str) -> None:
    """What the table holds is what was meant, can be stored, and is found by its hash."""
    for key in (one, two):
        stored = to_stored(key)
        assert from_stored(stored) == key
        assert "\x00" not in stored
        stored.encode()
        assert -(2**63) <= key_hash(stored) < 2**63
    assert (to_stored(one) == to_stored(two)) == (one == two)
