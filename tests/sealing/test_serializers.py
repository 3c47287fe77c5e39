"""Values to bytes and back: equal and of the same type all through, or refused; hostile bytes."""

from __future__ import annotations

import dataclasses
import enum
import functools
import math
import pickle
import threading
import time as clock
import tracemalloc
from collections import OrderedDict, namedtuple
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal, localcontext
from fractions import Fraction
from io import BytesIO
from typing import Any, ClassVar, NamedTuple
from uuid import UUID, SafeUUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coherent_cache import BadPayload, ConfigurationError, NotSerializable, TooLarge
from coherent_cache.sealing.encoding import MAX_DEPTH, MAX_EQUAL_HASHES, MAX_FRACTION_BYTES
from coherent_cache.sealing.serializers import PickleSerializer, PlainForm, TypedSerializer

fuzz = settings(
    max_examples=150,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)

BERLIN = ZoneInfo("Europe/Berlin")


class Point(NamedTuple):
    x: int
    y: int = 0


class Colour(enum.Enum):
    RED = "red"
    CRIMSON = RED
    PAIR = (1, 2)


class Level(enum.IntEnum):
    LOW = 1


class Word(enum.StrEnum):
    YES = "yes"


class Pair(tuple[int, ...], enum.Enum):
    ONE = (1, 2)


class Mode(enum.IntFlag):
    FAST = 1


class Rights(enum.Flag):
    READ = enum.auto()
    WRITE = enum.auto()


@dataclasses.dataclass(frozen=True)
class Page:
    name: str
    tags: tuple[str, ...] = ()
    length: int = dataclasses.field(init=False, default=0)

    made: ClassVar[int] = 0

    def __post_init__(self) -> None:
        type(self).made += 1
        object.__setattr__(self, "length", self.length + len(self.name))

    @functools.cached_property
    def title(self) -> str:
        return self.name.title()


@dataclasses.dataclass(slots=True)
class Slotted:
    value: Any


class Text(str):
    __slots__ = ()


class Money:
    def __init__(self, amount: Decimal) -> None:
        self.amount = amount

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Money) and self.amount == other.amount

    __hash__ = None  # type: ignore[assignment]


class Odd(tzinfo):
    def utcoffset(self, when: datetime | None) -> timedelta:
        return timedelta(hours=1)


MONEY = PlainForm(cls=Money, to_plain=lambda m: m.amount, from_plain=Money, name="money")
CLASSES = [Point, Colour, Level, Word, Pair, Mode, Rights, Page, Slotted, MONEY]
PLAIN = TypedSerializer()
WITH_CLASSES = TypedSerializer(CLASSES)


def shape(value: Any) -> Any:
    """*value* as text in which all that makes two values different can be seen."""
    kind = type(value)
    if kind is dict:
        return ("dict", [(shape(key), shape(item)) for key, item in value.items()])
    if kind in (list, tuple):
        return (kind.__name__, [shape(item) for item in value])
    if kind in (set, frozenset):
        return (kind.__name__, sorted(repr(shape(item)) for item in value))
    if kind in (datetime, time):
        return (
            kind.__name__,
            value.replace(tzinfo=None).isoformat(),
            value.fold,
            shape(value.tzinfo),
        )
    if kind is UUID:
        return ("UUID", value.int, value.is_safe)
    if kind is Decimal:
        return ("Decimal", value.as_tuple())
    if kind is int:
        return ("int", hex(value))  # decimal is limited
    if kind is Fraction:
        return ("Fraction", hex(value.numerator), hex(value.denominator))
    if kind is float and not math.isnan(value):
        return ("float", value.hex())
    if dataclasses.is_dataclass(kind):
        return (kind.__name__, [shape(getattr(value, f.name)) for f in dataclasses.fields(kind)])
    return (kind.__name__, repr(value))


EXAMPLES: list[Any] = [
    None,
    *(True, 1, 1.0, False, 0, 0.0, -0.0),
    *(127, 128, -128, -129, 255, 256, -(2**63), 2**64, 10**5_000, -(10**5_000)),
    *(math.inf, -math.inf, math.nan, 5e-324, 1.7976931348623157e308),
    *("", "é", "\x00", "\ud800", "\ud83d\ude00", "\U0001f600", "x" * 254, "x" * 255, "x" * 70_000),
    *(b"", b"\xff", b"x" * 254, b"x" * 255, b"x" * 256),
    *map(Decimal, ("0", "-0", "0E+3", "1.0", "1.00", "1E+999999", "1E-999999", "NaN", "sNaN12")),
    *map(Decimal, ("Infinity", "-Infinity", "-NaN7", "9" * 60)),
    *(Fraction(1, 3), Fraction(-7), Fraction(10**2_000, 3)),
    *(
        UUID(int=7),
        UUID(int=2**128 - 1, is_safe=SafeUUID.safe),
        UUID(int=1, is_safe=SafeUUID.unsafe),
    ),
    *(date.min, date.max, time.min, time.max, datetime.min, datetime.max),
    time(2, 30, fold=1, tzinfo=BERLIN),
    datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN),
    datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=BERLIN),
    datetime(2026, 1, 1, tzinfo=UTC),
    datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=-3, microseconds=1))),
    datetime(2026, 1, 1, tzinfo=timezone(timedelta(0), "mine")),
    *(timedelta.min, timedelta.max, timedelta(-1, 5, 7)),
    *((), [], {}, set(), frozenset(), ((),), [[]], {(): []}),
    [1, (1, [1, {"a": (b"", {1.5, None})}])],
    {True: 1, 2: "2", "2": 2, None: None, (1, "a"): [], frozenset({1}): (), b"k": 1, date.min: 1},
    list(range(300)),
    {"b": 1, "a": 2, "c": 0},
]


@pytest.mark.parametrize("value", EXAMPLES, ids=lambda value: type(value).__name__)
def test_comes_back_as_it_was(value: Any) -> None:
    back = PLAIN.loads(PLAIN.dumps(value))
    assert shape(back) == shape(value)
    if not (type(value) in (Decimal, float) and "nan" in str(value).lower()):
        assert back == value


def test_utc_and_zones_are_the_same_objects() -> None:
    assert PLAIN.loads(PLAIN.dumps(UTC)) is UTC
    assert PLAIN.loads(PLAIN.dumps(BERLIN)) is BERLIN


def test_a_decimal_is_no_matter_of_the_context() -> None:
    value = Decimal("1.2345678901234567890E+50")
    with localcontext() as context:
        context.prec, context.capitals = 3, 0
        data = PLAIN.dumps(value)
        assert shape(PLAIN.loads(data)) == shape(value)
    assert PLAIN.dumps(value) == data


text = st.text(st.characters(exclude_categories=()), max_size=300)
zones = st.one_of(
    st.none(),
    st.just(BERLIN),
    st.builds(
        timezone, st.timedeltas(timedelta(hours=-23), timedelta(hours=23)), st.text(max_size=3)
    ),
)
atoms: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**600), 2**600),
    st.floats(),
    text,
    st.binary(max_size=300),
    st.decimals().filter(lambda value: not value.is_snan()),
    st.fractions(),
    st.uuids(),
    st.dates(),
    st.builds(
        lambda t, z, f: t.replace(tzinfo=z, fold=f), st.times(), zones, st.sampled_from((0, 1))
    ),
    st.builds(
        lambda t, z, f: t.replace(tzinfo=z, fold=f), st.datetimes(), zones, st.sampled_from((0, 1))
    ),
    st.timedeltas(),
)
keys = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(tuple), st.frozensets(inner, max_size=3)
    ),
    max_leaves=4,
)
values = st.recursive(
    keys,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(keys, inner, max_size=4),
        st.sets(keys, max_size=4),
    ),
    max_leaves=12,
)


@fuzz
@given(values)
def test_any_value_comes_back_as_it_was(value: Any) -> None:
    data = PLAIN.dumps(value)
    assert shape(PLAIN.loads(data)) == shape(value)


# What is refused


class Dict(dict[Any, Any]):
    pass


REFUSED: list[Any] = [
    Point(1),
    Level.LOW,
    Word.YES,
    Pair.ONE,
    Mode.FAST,
    Colour.RED,
    Rights.READ,
    Page("a"),
    Money(Decimal(1)),
    OrderedDict(a=1),
    Dict(),
    Text("a"),
    type("Int", (int,), {})(1),
    type("Day", (date,), {})(2026, 1, 1),
    datetime(2026, 1, 1, tzinfo=Odd()),
    time(1, tzinfo=Odd()),
    ZoneInfo.no_cache("Europe/Berlin"),
    bytearray(b"a"),
    memoryview(b"a"),
    1j,
    range(3),
    object(),
    int,
    len,
    ...,
    NotImplemented,
    timezone(timedelta(0), Text("mine")),
    Fraction(1, 3**6_000),
]


@pytest.mark.parametrize("value", REFUSED, ids=lambda value: type(value).__name__)
def test_what_would_not_come_back_is_refused(value: Any) -> None:
    for holder in (value, [value], {"a": (value,)}):
        with pytest.raises(NotSerializable, match="is not serialisable"):
            PLAIN.dumps(holder)


def test_a_zone_of_somebodys_own_is_refused() -> None:
    data = (b"TZif2" + bytes(15) + bytes(16) + b"\0\0\0\1\0\0\0\4" + bytes(6) + b"XXX\0") * 1
    data += b"TZif2" + bytes(15) + bytes(16) + b"\0\0\0\1\0\0\0\4" + bytes(6) + b"XXX\0\nXXX0\n"
    for key in ("Europe/Berlin", "No/Such", None):
        with pytest.raises(NotSerializable):
            PLAIN.dumps(ZoneInfo.from_file(BytesIO(data), key=key))


def test_the_error_says_what_and_where() -> None:
    with pytest.raises(NotSerializable) as caught:
        PLAIN.dumps({"a": [(Point(1),)]})
    assert caught.value.type_name == f"{__name__}.Point"
    assert "inside dict → list → tuple" in str(caught.value)
    assert "TypedSerializer(classes=[…])" in str(caught.value)


def test_cycles_are_refused() -> None:
    cycle: list[Any] = []
    cycle.append((cycle,))
    table: dict[str, Any] = {}
    table["self"] = [table]
    slotted = Slotted(None)
    slotted.value = [slotted]
    for value in (cycle, table, [table], slotted):
        with pytest.raises(NotSerializable, match="contains itself"):
            WITH_CLASSES.dumps(value)


def test_depth_is_bounded() -> None:
    value: Any = ()
    for _ in range(MAX_DEPTH - 1):
        value = (value,)
    assert PLAIN.loads(PLAIN.dumps(value)) == value
    with pytest.raises(NotSerializable, match=f"more than {MAX_DEPTH} levels"):
        PLAIN.dumps([value])


def test_who_is_deep_in_the_stack_already() -> None:
    value: Any = None
    for _ in range(MAX_DEPTH - 1):
        value = [value]
    data = PLAIN.dumps(value)
    met: set[str] = set()

    def deeper(call: Callable[[], Any]) -> None:
        try:
            call()
        except (BadPayload, NotSerializable) as error:
            met.add(type(error).__name__)
            return
        deeper(call)

    deeper(lambda: PLAIN.loads(data))
    deeper(lambda: PLAIN.dumps(value))
    assert met == {"BadPayload", "NotSerializable"}


def test_what_is_shared_is_written_again_and_again_up_to_a_limit() -> None:
    shared = [1]
    assert PLAIN.loads(PLAIN.dumps([shared, shared])) == [[1], [1]]
    tower: list[Any] = [None]
    for _ in range(20):
        tower = [tower, tower]
    with pytest.raises(TooLarge) as caught:
        TypedSerializer(max_bytes=10_000).dumps(tower)
    assert caught.value.max_bytes == 10_000
    assert 10_000 < caught.value.size_bytes < 11_000


def test_large_is_too_large() -> None:
    assert TypedSerializer(max_bytes=5).dumps("abc")
    with pytest.raises(TooLarge):
        TypedSerializer(max_bytes=4).dumps("abc")


def test_keys_with_one_hash_are_refused() -> None:
    many = [n * (2**61 - 1) for n in range(MAX_EQUAL_HASHES + 1)]
    assert PLAIN.loads(PLAIN.dumps(set(many[:-1]))) == set(many[:-1])
    for value in (set(many), frozenset(many), dict.fromkeys(many)):
        with pytest.raises(NotSerializable, match="one hash"):
            PLAIN.dumps(value)


# Registered classes


@pytest.mark.parametrize(
    "value",
    [
        Point(1, 2),
        Colour.RED,
        Colour.PAIR,
        Level.LOW,
        Word.YES,
        Pair.ONE,
        Mode.FAST,
        Mode(6),
        Rights.READ,
        Rights.READ | Rights.WRITE,
        Rights(0),
        Page("ab", ("x",)),
        Slotted([1]),
        Money(Decimal("1.50")),
        {Point(1): [Page("a")], Level.LOW: {Colour.RED}, Page("b"): Slotted(Slotted(Level.LOW))},
    ],
    ids=lambda value: f"{type(value).__name__}",
)
def test_registered_classes_come_back(value: Any) -> None:
    back = WITH_CLASSES.loads(WITH_CLASSES.dumps(value))
    assert back == value
    assert shape(back) == shape(value) or type(value) is Money


def test_an_alias_is_its_member() -> None:
    assert WITH_CLASSES.loads(WITH_CLASSES.dumps(Colour.CRIMSON)) is Colour.RED


def test_reading_a_dataclass_runs_nothing_of_it() -> None:
    data = WITH_CLASSES.dumps(Page("abc"))
    before = Page.made
    assert WITH_CLASSES.loads(data).length == 3
    assert Page.made == before


def test_what_a_cached_property_keeps_is_left_out() -> None:
    page = Page("abc")
    assert page.title == "Abc"
    assert vars(WITH_CLASSES.loads(WITH_CLASSES.dumps(page))) == {
        "name": "abc",
        "tags": (),
        "length": 3,
    }


def test_attributes_that_are_no_fields_are_refused() -> None:
    page = Page("abc")
    object.__setattr__(page, "other", 1)
    with pytest.raises(NotSerializable, match="'other' that is no field"):
        WITH_CLASSES.dumps(page)


def test_a_field_that_was_never_set_is_refused() -> None:
    with pytest.raises(NotSerializable, match="plain form"):
        WITH_CLASSES.dumps(object.__new__(Slotted))


def test_another_release_of_a_class() -> None:
    """The name is the same, the fields are not."""
    old = dataclasses.make_dataclass("Thing", ["a", "b"])
    new = dataclasses.make_dataclass("Thing", ["a", "c"])
    point = namedtuple("Thing", "a b")
    old.__module__ = new.__module__ = point.__module__ = "application"
    data = TypedSerializer([old]).dumps(old(1, 2))
    assert TypedSerializer([point]).loads(data) == point(1, 2)
    with pytest.raises(BadPayload) as caught:
        TypedSerializer([new]).loads(data)
    assert caught.value.reason == "value"


def test_a_class_that_is_not_registered_any_more() -> None:
    with pytest.raises(BadPayload):
        PLAIN.loads(WITH_CLASSES.dumps(Point(1)))


def fails(_: Any) -> Any:
    raise LookupError("as user code may")


@pytest.mark.parametrize("answer", [fails, lambda plain: plain, lambda plain: None])
def test_from_plain_that_fails_or_returns_something_else(answer: Any) -> None:
    form = PlainForm(cls=Money, to_plain=lambda m: m.amount, from_plain=answer, name="money")
    with pytest.raises(BadPayload) as caught:
        TypedSerializer([form]).loads(WITH_CLASSES.dumps(Money(Decimal(1))))
    assert caught.value.reason == "value"


def test_to_plain_that_fails() -> None:
    form = PlainForm(cls=Money, to_plain=fails, from_plain=Money)
    with pytest.raises(NotSerializable) as caught:
        TypedSerializer([form]).dumps(Money(Decimal(1)))
    assert isinstance(caught.value.__cause__, LookupError)


class WithNew:
    def __new__(cls, *_: Any) -> Any:
        return object.__new__(cls)


@dataclasses.dataclass
class MakesItself(WithNew):
    value: int


@dataclasses.dataclass
class IsADict(dict[Any, Any]):
    value: int


class HasSlots:
    __slots__ = ("hidden",)


@dataclasses.dataclass
class HidesSlots(HasSlots):
    value: int


@pytest.mark.parametrize(
    "classes",
    [[int], [dict], [Money], [MakesItself], [IsADict], [HidesSlots], [Point, Point], [3], [Text]],
    ids=str,
)
def test_classes_that_cannot_be_registered(classes: Any) -> None:
    with pytest.raises(ConfigurationError):
        TypedSerializer(classes)


def test_two_classes_of_one_name() -> None:
    other = PlainForm(cls=Slotted, to_plain=str, from_plain=str, name="money")
    with pytest.raises(ConfigurationError, match="two classes are registered as 'money'"):
        TypedSerializer([MONEY, other])


# Hostile bytes


def read(data: bytes) -> str | None:
    """The reason for which *data* is refused, None if it is read.  Nothing else may be raised."""
    try:
        WITH_CLASSES.loads(data)
    except BadPayload as error:
        return error.reason
    return None


LONG = b"\xff\xff\xff\xff\xff"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"?",
        b"i",
        b"NN",
        b"s\x01\xff",
        b"s\x05a",
        *(tag + LONG for tag in (b"i", b"s", b"b", b"D", b"(", b"[", b"{", b"<", b">", b"C", b"Z")),
        b"{" + b"\x01" + b"[\x00" + b"N",
        b"<\x01[\x00",
        b"<\x02NN",
        b"{\x02NNNN",
        b"D\x031,5",
        b"D\x03 15",
        b"D\x041_00",
        b"D\x00",
        b"Qi\x01\x01i\x01\x00",
        b"Qi\x01\x02i\x01\x04",
        b"Qi\x01\x02i\x01\xff",
        b"QTi\x01\x01",
        b"U\x03" + bytes(16),
        b"d\x00\x00\x01\x01",
        b"t\x18" + bytes(7) + b"N",
        b"t" + bytes(7) + b"\x02N",
        b"t" + bytes(8) + b"T",
        b"m" + b"\x7f\xff\xff\xff" + bytes(8),
        b"zNN",
        b"zm" + b"\x00\x00\x00\x09" + bytes(8) + b"N",
        b"Z\x00",
        b"Z\x0b../../etc/x",
        b"Z\x07No/Such",
        b"Z\x06Europe",
        b"C\x06os.systs\x02ls",
        b"C\x05moneyI",
        b"C\x05money",
    ],
)
def test_hostile_bytes(data: bytes) -> None:
    assert read(data) == "value"


@fuzz
@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    assert read(data) in (None, "value")


@fuzz
@given(values, st.data())
def test_bytes_that_are_nearly_right(value: Any, more: Any) -> None:
    data = bytearray(WITH_CLASSES.dumps(value))
    for _ in range(more.draw(st.integers(1, 4))):
        at = more.draw(st.integers(0, len(data) - 1))
        data[at] = more.draw(st.sampled_from(b"NTFifsbDQUdtemzZ([{<>C\x00\x01\x02\xff"))
    assert read(bytes(data)) in (None, "value")


@fuzz
@given(values)
def test_every_beginning_is_refused(value: Any) -> None:
    data = PLAIN.dumps(value)
    assert {read(data[:size]) for size in range(len(data))} == {"value"}


def test_what_takes_the_square_of_its_length_is_refused() -> None:
    """By its form, where the times below could tell it only after minutes."""
    ints = [b"i\x0a" + (n * (2**61 - 1)).to_bytes(10, "big") for n in range(MAX_EQUAL_HASHES + 1)]
    assert len(PLAIN.loads(b"<%c" % (len(ints) - 1) + b"".join(ints[1:]))) == MAX_EQUAL_HASHES
    for tag in (b"<", b">"):
        assert read(tag + b"%c" % len(ints) + b"".join(ints)) == "value"
    assert read(b"{%c" % len(ints) + b"N".join(ints) + b"N") == "value"
    one = b"i\x01\x01"
    for size, reason in ((MAX_FRACTION_BYTES, None), (MAX_FRACTION_BYTES + 1, "value")):
        long = b"i\xff" + size.to_bytes(4, "big") + b"\x7f" * size
        assert read(b"Q" + long + one) == reason
        assert read(b"Q" + one + long) == reason


MEGABYTE = 1_000_000
#: 80,000 ints of ten bytes and one hash.
COLLIDING = [b"i\x0a" + (n * (2**61 - 1)).to_bytes(10, "big") for n in range(1, MEGABYTE // 13)]
BIG_INT = b"i\xff" + (MEGABYTE // 2).to_bytes(4, "big") + b"\x7f" * (MEGABYTE // 2)
#: Two primes' powers, so that it is in its lowest terms: nothing is refused before the end.
FRACTION = b"Q" + b"".join(
    b"i\xff\x00\x00\x04\x00" + number.to_bytes(1024, "big") for number in (3**5_160, 7**2_910)
)
HOSTILE = {
    "depth": b"[\x01" * (MEGABYTE // 2),
    "tuples": b"(\x02" * (MEGABYTE // 2),
    "wide": b"[\xff\x00\x0f\x00\x00" + b"[\x00" * (MEGABYTE // 2),
    "claims": b"[\xff\x00\x0f\x00\x00" * 90 + b"N" * MEGABYTE,
    "sets": b"[\xff\x00\x07\x00\x00" + b"<\x00" * (MEGABYTE // 2),
    "one hash in a set": b"<\xff" + len(COLLIDING).to_bytes(4, "big") + b"".join(COLLIDING),
    "one hash in a dict": b"{\xff"
    + len(COLLIDING).to_bytes(4, "big")
    + b"N".join(COLLIDING)
    + b"N",
    "a long fraction": b"Q" + BIG_INT + BIG_INT,
    "fractions": b"[\xff" + (480).to_bytes(4, "big") + FRACTION * 480,
    "a long decimal": b"D\xff" + MEGABYTE.to_bytes(4, "big") + b"9" * MEGABYTE,
    "huge exponents as keys": b"<\xff\x00\x00\x80\x00"
    + b"".join(b"D\x17%023d" % n for n in range(0x8000)),
    "zones": b"[\xff\x00\x01\x00\x00" + b"Z\x0dEurope/Berlin" * 0x10000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_bytes_take_neither_time_nor_memory(name: str) -> None:
    """Each of some megabyte; the quadratic ones would take minutes, the claims terabytes."""
    data = HOSTILE[name]
    start = clock.process_time()
    read(data)
    assert clock.process_time() - start < 5


@pytest.mark.parametrize("name", ["claims", "sets", "wide"])
def test_memory_is_bounded_by_the_length(name: str) -> None:
    data = HOSTILE[name][:100_000]
    if name != "claims":  # a list of so many that it is read to its end
        data = b"[\xff" + (49_995).to_bytes(4, "big") + data[6 : 6 + 2 * 49_995]
    tracemalloc.start()
    try:
        read(data)
        assert tracemalloc.get_traced_memory()[1] < 150 * len(data)
    finally:
        tracemalloc.stop()


def test_threads_share_a_serializer() -> None:
    wrong: list[Any] = []
    start = threading.Barrier(4)

    def run(number: int) -> None:
        start.wait()
        for n in range(100):
            value = [number] * n
            if WITH_CLASSES.loads(WITH_CLASSES.dumps(value)) != value:
                wrong.append(value)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# Pickle


def test_pickle() -> None:
    serializer = PickleSerializer()
    value = {Point(1): [Level.LOW, OrderedDict(a=Text("b"))]}
    back = serializer.loads(serializer.dumps(value))
    assert back == value
    assert type(next(iter(back))) is Point
    assert serializer.dumps(1) == pickle.dumps(1, 5)
    assert PickleSerializer(protocol=2).dumps(1) == pickle.dumps(1, 2)


def test_what_pickle_does_not_take() -> None:
    with pytest.raises(NotSerializable) as caught:
        PickleSerializer().dumps(lambda: None)
    assert caught.value.type_name == "builtins.function"


@pytest.mark.parametrize("data", [b"", b"x", b"cno.such\nthing\n.", b"cbuiltins\nnone\n."])
def test_pickles_that_cannot_be_read(data: bytes) -> None:
    with pytest.raises(BadPayload) as caught:
        PickleSerializer().loads(data)
    assert caught.value.reason == "value"


@pytest.mark.parametrize("protocol", [0, 1, 99, -1])
def test_protocols(protocol: int) -> None:
    with pytest.raises(ConfigurationError, match="protocol="):
        PickleSerializer(protocol=protocol)
