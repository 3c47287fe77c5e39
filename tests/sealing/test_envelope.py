"""Payloads: opened only as what they were sealed as; anything else is a `BadPayload`."""

from __future__ import annotations

import dataclasses
import hashlib
import time as clock
import tracemalloc
import zlib
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coherent_cache import BadPayload, ConfigurationError, NotSerializable, SealingError, TooLarge
from coherent_cache.sealing.envelope import REASONS, Envelope, Opened
from coherent_cache.sealing.serializers import PickleSerializer, PlainForm, TypedSerializer

fuzz = settings(
    max_examples=60,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)

KEY, OTHER_KEY = b"k" * 16, b"o" * 32
ADDRESS = {"key": "wiki.Page.text['a']", "variant": "wiki.Page", "generation": "17"}
DEPENDENCIES = {"wiki.Page.text['a']": "17", "wiki.menu": "4"}
VALUE = {"a": (1, 2.5, None), "b": ["x" * 30]}


def envelope(**changes: Any) -> Envelope:
    return Envelope(
        **{"application": "wiki", "serializer": TypedSerializer(), "version": "1", **changes}
    )


def sealed(by: Envelope, value: Any = VALUE, **changes: Any) -> bytes:
    given = {**ADDRESS, "dependencies": DEPENDENCIES, **changes}
    return by.seal(value=value, **given)


def refusal(by: Envelope, payload: Any, **changes: Any) -> str:
    """The reason for which *payload* is not opened; nothing else may be raised."""
    with pytest.raises(BadPayload) as caught:
        by.open(payload, **{**ADDRESS, **changes})
    assert caught.value.reason in REASONS
    return caught.value.reason


KINDS: dict[str, dict[str, Any]] = {
    "no keys": {},
    "keys": {"keys": [KEY]},
    "blake2b": {"keys": [KEY], "algorithm": "blake2b"},
    "sha512": {"keys": [KEY], "algorithm": "sha512"},
    "pickle": {"keys": [KEY], "serializer": PickleSerializer()},
    "compressed": {"keys": [KEY], "compress_above": 0},
    "compressed, no keys": {"compress_above": 0},
}
every_kind = pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)


@every_kind
def test_comes_back(options: dict[str, Any]) -> None:
    by = envelope(**options)
    assert by.open(sealed(by), **ADDRESS) == Opened(VALUE, DEPENDENCIES)
    assert list(by.open(sealed(by), **ADDRESS).dependencies) == list(DEPENDENCIES)
    assert envelope(**options).open(sealed(by, dependencies={}), **ADDRESS).dependencies == {}


any_text = st.text(st.characters(exclude_categories=()))


@fuzz
@given(
    any_text, any_text, any_text, st.dictionaries(any_text, any_text), st.sampled_from(["", "é"])
)
def test_any_address_comes_back(
    key: str, variant: str, generation: str, dependencies: dict[str, str], version: str
) -> None:
    by = envelope(version=version)
    address = {"key": key, "variant": variant, "generation": generation}
    payload = by.seal(dependencies=dependencies, value=1, **address)
    assert by.open(payload, **address) == Opened(1, dependencies)


# Another address, another configuration

ELSEWHERE = [
    ("key", {"key": "wiki.Page.text['b']"}),
    ("key", {"key": ""}),
    ("variant", {"variant": "wiki.Draft"}),
    ("generation", {"generation": "18"}),
    ("generation", {"generation": "1"}),
]


@every_kind
@pytest.mark.parametrize(("reason", "changes"), ELSEWHERE)
def test_not_at_another_address(
    options: dict[str, Any], reason: str, changes: dict[str, str]
) -> None:
    by = envelope(**options)
    assert refusal(by, sealed(by), **changes) == reason
    assert refusal(by, sealed(by, **changes)) == reason


addresses = st.fixed_dictionaries(dict.fromkeys(ADDRESS, any_text))


@fuzz
@given(addresses, addresses)
def test_parts_are_not_taken_for_one_another(first: dict[str, str], second: dict[str, str]) -> None:
    by = envelope()
    payload = by.seal(dependencies={}, value=None, **first)
    if first == second:
        by.open(payload, **second)
    else:
        assert refusal(by, payload, **second) in ADDRESS


def test_the_border_between_two_parts() -> None:
    by = envelope()
    payload = sealed(by, key="ab", variant="c", generation="", dependencies={})
    for key, variant, generation in [("a", "bc", ""), ("abc", "", ""), ("ab", "", "c")]:
        assert refusal(by, payload, key=key, variant=variant, generation=generation) in ADDRESS
    # What would be the generation's, taken for a dependency.
    assert refusal(by, sealed(by, generation="", dependencies={"17": ""})) == "generation"


class OwnSerializer:
    """A user's own."""

    name = "own"
    safe = True

    def dumps(self, value: Any) -> bytes:
        return repr(value).encode()

    def loads(self, data: bytes) -> Any:
        raise LookupError(data)


@pytest.mark.parametrize(
    ("reason", "ours", "theirs"),
    [
        ("application", {}, {"application": "blog"}),
        ("version", {}, {"version": "2"}),
        ("codec", {}, {"serializer": OwnSerializer()}),
        ("codec", {"keys": [KEY]}, {"keys": [KEY], "serializer": PickleSerializer()}),
        ("codec", {"keys": [KEY], "serializer": PickleSerializer()}, {"keys": [KEY]}),
        ("application", {"keys": [KEY]}, {"keys": [KEY], "application": "blog"}),
        ("mac", {"keys": [KEY]}, {"keys": [OTHER_KEY]}),
        ("mac", {"keys": [KEY]}, {}),
        ("checksum", {}, {"keys": [KEY]}),
        ("mac", {"keys": [KEY]}, {"keys": [KEY], "algorithm": "sha3_256"}),
        ("truncated", {"keys": [KEY]}, {"keys": [KEY], "algorithm": "sha224"}),
        ("extended", {"keys": [KEY]}, {"keys": [KEY], "algorithm": "sha512"}),
        ("mac", {"keys": [KEY], "algorithm": "sha512"}, {"keys": [KEY], "algorithm": "blake2b"}),
    ],
)
def test_not_by_another_configuration(
    reason: str, ours: dict[str, Any], theirs: dict[str, Any]
) -> None:
    assert refusal(envelope(**ours), sealed(envelope(**theirs))) == reason


def test_keys_are_changed_one_after_the_other() -> None:
    old, both, new = (
        envelope(keys=[KEY]),
        envelope(keys=[OTHER_KEY, KEY]),
        envelope(keys=[OTHER_KEY]),
    )
    assert both.open(sealed(old), **ADDRESS).value == VALUE
    assert new.open(sealed(both), **ADDRESS).value == VALUE
    assert refusal(old, sealed(both)) == "mac"
    assert refusal(new, sealed(old)) == "mac"


def test_a_key_as_text_is_its_utf8() -> None:
    text = "é" * 8 + "30313233"
    assert envelope(keys=[text]).open(sealed(envelope(keys=[text.encode()])), **ADDRESS)


# Damage and forgery


@every_kind
def test_every_byte_counts(options: dict[str, Any]) -> None:
    by = envelope(**options)
    payload = sealed(by)
    for at in range(len(payload)):
        for bit in (1, 0x80, 0xFF):
            damaged = bytearray(payload)
            damaged[at] ^= bit
            refusal(by, bytes(damaged))


@every_kind
def test_every_length_counts(options: dict[str, Any]) -> None:
    by = envelope(**options)
    payload = sealed(by)
    for size in range(len(payload)):
        assert refusal(by, payload[:size]) == "truncated"
        assert refusal(by, payload[size + 1 :]) in ("format", "truncated")
    for more in (b"\x00", b"x" * 40, payload):
        assert refusal(by, payload + more) == "extended"


@fuzz
@given(st.data(), st.sampled_from(list(KINDS)))
def test_pieces_of_two_payloads(data: Any, kind: str) -> None:
    """Neither of two payloads, however they are cut and put together."""
    by = envelope(**KINDS[kind])
    first, second = sealed(by), sealed(by, value=[1] * 30, key="wiki.other")
    cut = data.draw(st.integers(0, len(first)))
    paste = data.draw(st.integers(0, len(second)))
    mixed = first[:cut] + second[paste:]
    if mixed not in (first, second):
        refusal(by, mixed)
        refusal(by, mixed, key="wiki.other")


@fuzz
@given(st.binary(max_size=300), st.sampled_from(list(KINDS)), st.booleans())
def test_any_bytes(data: bytes, kind: str, beginning: bool) -> None:
    refusal(envelope(**KINDS[kind]), b"coca\x01" * beginning + data)


@pytest.mark.parametrize("payload", [None, "text", 1, bytearray(b"coca"), memoryview(b"coca"), []])
def test_what_is_no_bytes(payload: Any) -> None:
    assert refusal(envelope(), payload) == "format"


def test_another_format() -> None:
    by = envelope()
    payload = sealed(by)
    assert refusal(by, payload.replace(b"coca\x01", b"coca\x02")) == "format"
    assert refusal(by, payload.replace(b"coca\x01\x00", b"coca\x01\x02")) == "format"


# What somebody can write who knows the format: with a digest of his own (no keys).


def forged(
    by: Envelope, *, fields: bytes | None = None, value: bytes | None = None, flags: int = 0
) -> bytes:
    """A payload with the right digest of a keyless envelope."""
    _, _, good_fields, good_value = by._split(sealed(by))
    fields = good_fields if fields is None else fields
    value = good_value if value is None else value
    head = (
        b"coca\x01"
        + bytes([flags])
        + b"%b%b" % tuple(len(part).to_bytes(4, "big") for part in (fields, value))
    )
    return head + hashlib.sha256(head + fields + value).digest() + fields + value


def texts(*given: bytes) -> bytes:
    return b"".join(len(text).to_bytes(4, "big") + text for text in given)


COMMON = [b"wiki", b"1", b"typed", *(text.encode() for text in ADDRESS.values())]


@pytest.mark.parametrize(
    ("reason", "changes"),
    [
        ("fields", {"fields": b""}),
        ("fields", {"fields": texts(*COMMON[:-1])}),
        ("fields", {"fields": texts(*COMMON, b"a")}),
        ("fields", {"fields": texts(*COMMON) + b"\x00"}),
        ("fields", {"fields": texts(*COMMON) + b"\xff\xff\xff\xff"}),
        ("fields", {"fields": texts(*COMMON, b"a", b"1", b"a", b"2")}),
        ("fields", {"fields": texts(*COMMON, b"\xff", b"1")}),
        ("key", {"fields": texts(*COMMON[:3], b"k", *COMMON[4:])}),
        ("value", {"value": b""}),
        ("value", {"value": b"NN"}),
        ("compression", {"flags": 1}),
        ("compression", {"flags": 1, "value": zlib.compress(b"N")[:-1]}),
        ("compression", {"flags": 1, "value": zlib.compress(b"N") + b"x"}),
        ("value", {"flags": 1, "value": zlib.compress(b"NN")}),
        ("value", {"value": zlib.compress(b"N")}),
    ],
)
def test_forged_with_the_right_digest(reason: str, changes: dict[str, Any]) -> None:
    by = envelope()
    assert by.open(forged(by), **ADDRESS).value == VALUE
    assert refusal(by, forged(by, **changes)) == reason


def test_a_decompression_bomb_is_not_inflated() -> None:
    by = envelope()
    bomb = forged(by, value=zlib.compress(b"N" * 100_000_000, 9), flags=1)
    assert len(bomb) < 100_000
    tracemalloc.start()
    start = clock.process_time()
    try:
        assert refusal(by, bomb) == "too-large"
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()
    assert clock.process_time() - start < 2


def test_without_keys_whoever_writes_chooses_the_value() -> None:
    """Said in docs/security.md; the reason for keys."""
    by = envelope()
    assert by.open(forged(by, value=b"T"), **ADDRESS).value is True
    keyed = envelope(keys=[KEY])
    assert refusal(keyed, forged(by, value=b"T")) == "mac"


def test_an_older_payload_of_the_same_address_is_opened() -> None:
    """Said in docs/security.md: a seal tells where a value belongs, not when it was made."""
    by = envelope(keys=[KEY])
    first, _second = sealed(by, 1), sealed(by, 2)
    assert by.open(first, **ADDRESS).value == 1


@pytest.mark.parametrize("part", ["application", "key", "variant", "generation", "dependencies"])
def test_all_parts_are_authenticated(part: str) -> None:
    """Changed in the payload, and asked for as it was changed."""
    by = envelope(keys=[KEY], application="wiki-application")
    old, new = {
        "application": (b"wiki-application", b"blog-application"),
        "key": (b"text['a']", b"text['b']"),
        "variant": (b"\x09wiki.Page", b"\x09wiki.Pane"),
        "generation": (b"\x0217", b"\x0218"),
        "dependencies": (b"wiki.menu", b"wiki.many"),
    }[part]
    payload = sealed(by)
    assert old in payload
    changed = payload.replace(old, new, 1)  # the key is among the dependencies, too
    asked = {
        "key": {"key": ADDRESS["key"].replace("'a'", "'b'")},
        "variant": {"variant": "wiki.Pane"},
        "generation": {"generation": "18"},
    }.get(part, {})
    reader = by
    if part == "application":
        reader = envelope(keys=[KEY], application="blog-application")
    assert refusal(reader, changed, **asked) == "mac"


# Nothing is read that was not verified


class Recorder:
    """Tells when it is unpickled."""

    calls: ClassVar[list[str]] = []

    def __reduce__(self) -> Any:
        return (Recorder.record, ("ran",))

    @staticmethod
    def record(what: str) -> str:
        Recorder.calls.append(what)
        return what


@pytest.mark.parametrize("algorithm", ["sha256", "blake2b"])
@pytest.mark.parametrize("compress_above", [0, None])
def test_nothing_is_unpickled_without_a_valid_seal(
    algorithm: str, compress_above: int | None
) -> None:
    options = {"serializer": PickleSerializer(), "algorithm": algorithm}
    options["compress_above"] = compress_above
    by = envelope(keys=[KEY], **options)
    payload = sealed(by, [Recorder(), "x" * 2_000])
    Recorder.calls.clear()
    for at in range(len(payload)):
        refusal(by, payload[:at] + bytes([payload[at] ^ 1]) + payload[at + 1 :])
        refusal(by, payload[:at])
    refusal(by, payload + b"x")
    refusal(envelope(keys=[OTHER_KEY], **options), payload)
    for reason, changes in ELSEWHERE:
        assert refusal(by, payload, **changes) == reason
    assert Recorder.calls == []
    assert by.open(payload, **ADDRESS).value == ["ran", "x" * 2_000]
    assert Recorder.calls == ["ran"]


class Watched(TypedSerializer):
    """Tells when it reads."""

    reads = 0

    def loads(self, data: bytes) -> Any:
        self.reads += 1
        return super().loads(data)


def test_nothing_is_inflated_or_read_without_a_valid_seal(monkeypatch: pytest.MonkeyPatch) -> None:
    serializer = Watched()
    by = envelope(keys=[KEY], serializer=serializer, compress_above=0)
    payload = sealed(by, "x" * 3_000)
    inflated: list[int] = []
    inflater = zlib.decompressobj
    monkeypatch.setattr(
        "coherent_cache.sealing.envelope.zlib.decompressobj",
        lambda: inflated.append(1) or inflater(),  # type: ignore[func-returns-value]
    )
    for at in range(len(payload)):
        refusal(by, payload[:at] + bytes([payload[at] ^ 1]) + payload[at + 1 :])
    assert (serializer.reads, inflated) == (0, [])
    by.open(payload, **ADDRESS)
    assert (serializer.reads, inflated) == (1, [1])


def test_a_class_that_is_gone() -> None:
    by = envelope(keys=[KEY], serializer=PickleSerializer())

    class Raw(PickleSerializer):
        def dumps(self, value: Any) -> bytes:
            return b"cno.such.module\nThing\n."

    payload = sealed(envelope(keys=[KEY], serializer=Raw()))
    assert refusal(by, payload) == "value"


@dataclasses.dataclass
class Thing:
    value: int


def test_errors_of_from_plain_and_of_a_users_serializer() -> None:
    def fail(_: Any) -> Any:
        raise ZeroDivisionError

    form = PlainForm(cls=Thing, to_plain=lambda thing: thing.value, from_plain=fail)
    by = envelope(serializer=TypedSerializer([form]))
    assert refusal(by, sealed(by, Thing(1))) == "value"
    own = envelope(serializer=OwnSerializer())
    assert refusal(own, sealed(own)) == "value"


@pytest.mark.parametrize("error", [BadPayload("mine"), BadPayload("mac"), MemoryError()])
def test_reasons_of_a_users_serializer_are_not_ours(error: Exception) -> None:
    class Picky(TypedSerializer):
        def loads(self, data: bytes) -> Any:
            raise error

    by = envelope(serializer=Picky())
    assert refusal(by, sealed(by)) == "value"


# Sealing


def test_what_cannot_be_sealed() -> None:
    by = envelope(max_bytes=500)
    with pytest.raises(NotSerializable) as unserialisable:
        sealed(by, object())
    assert unserialisable.value.type_name == "builtins.object"
    with pytest.raises(TooLarge) as large:
        sealed(by, "x" * 500)
    assert large.value.max_bytes == 500
    assert large.value.size_bytes == 500 + len(sealed(by, "")) + 4
    assert issubclass(NotSerializable, SealingError)
    assert issubclass(TooLarge, SealingError)


def test_the_limit_is_of_the_value_before_it_is_compressed() -> None:
    by = envelope(max_bytes=2_000)
    with pytest.raises(TooLarge):
        sealed(by, "x" * 2_000)
    size = 2_000 - len(sealed(by, "")) - 4
    assert len(sealed(by, "x" * size)) < 500
    assert by.open(sealed(by, "x" * size), **ADDRESS).value == "x" * size
    plain = envelope(max_bytes=2_000, compress_above=None)
    assert len(sealed(plain, "x" * size)) == 2_000
    assert plain.open(sealed(plain, "x" * size), **ADDRESS).value == "x" * size
    assert refusal(envelope(max_bytes=1_999), sealed(plain, "x" * size)) == "too-large"
    assert refusal(envelope(max_bytes=1_999), sealed(by, "x" * size)) == "too-large"


def test_only_what_gets_smaller_is_compressed() -> None:
    noise = hashlib.shake_128(b"").digest(5_000)
    by, never = envelope(), envelope(compress_above=None)
    assert len(sealed(by, noise)) == len(sealed(never, noise))
    assert len(sealed(by, "x" * 1_000)) == len(sealed(never, "x" * 1_000))
    assert len(sealed(by, "x" * 5_000)) < 400
    assert never.open(sealed(by, "x" * 5_000), **ADDRESS).value == "x" * 5_000


class Broken(TypedSerializer):
    def dumps(self, value: Any) -> bytes:
        if value is None:
            return "text"  # type: ignore[return-value]
        raise ZeroDivisionError("as user code may")


@pytest.mark.parametrize("value", [None, 1])
def test_a_serializer_that_fails(value: Any) -> None:
    with pytest.raises(NotSerializable):
        sealed(envelope(serializer=Broken()), value)


@pytest.mark.parametrize(
    "changes",
    [{"key": 1}, {"generation": 17}, {"variant": None}, {"dependencies": {"a": 1}}],
)
def test_addresses_are_text(changes: dict[str, Any]) -> None:
    by = envelope()
    with pytest.raises(TypeError, match="is text, not"):
        sealed(by, **changes)
    if "dependencies" not in changes:
        with pytest.raises(TypeError, match="is text, not"):
            by.open(sealed(by), **{**ADDRESS, **changes})


class Unsaid(OwnSerializer):
    safe = None  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"serializer": PickleSerializer()}, r"add keys=\[…\]"),
        ({"serializer": Unsaid()}, r"add keys=\[…\]"),
        ({"keys": [b"short"]}, "16 bytes or more, and this one has 5"),
        ({"keys": [KEY, ""]}, "and this one has 0"),
        ({"keys": KEY}, r"keys=\[key\]"),
        ({"keys": "k" * 16}, r"keys=\[key\]"),
        ({"keys": [16]}, "bytes or text, not int"),
        ({"keys": [b"k" * 65], "algorithm": "blake2b"}, "64 bytes or less"),
        ({"algorithm": "md5"}, "none that seals"),
        ({"algorithm": "sha1"}, "none that seals"),
        ({"algorithm": "shake_128"}, "none that seals"),
        ({"algorithm": "none"}, "none that seals"),
        ({"application": ""}, "application="),
        ({"compression_level": 0}, "compression_level="),
        ({"compress_above": -1}, "compress_above="),
        ({"max_bytes": 0}, "max_bytes="),
    ],
)
def test_configurations_that_cannot_be(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        envelope(**changes)


def test_no_message_shows_a_key() -> None:
    for keys in (["secret"], [b"secret" * 20]):
        with pytest.raises(ConfigurationError) as caught:
            envelope(keys=keys, algorithm="blake2b")
        assert "secret'" not in str(caught.value)
        assert "secretsecret" not in str(caught.value)
    assert "kkkk" not in repr(envelope(keys=[KEY])) + str(vars(envelope(keys=[KEY])))


def test_every_reason_is_met() -> None:
    """The list that counters are made by has no word that is never used."""
    import inspect

    from coherent_cache.sealing import envelope as module

    source = inspect.getsource(module).partition("_FORMAT = ")[2]
    assert {reason for reason in REASONS if f'"{reason}"' not in source} == set()
