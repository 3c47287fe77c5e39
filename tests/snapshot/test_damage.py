"""A file that is not ours, or not whole: never an error, never a value, one warning, replaced."""

from __future__ import annotations

import logging
import os
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import create_engine

from coherent_cache import CacheManager
from coherent_cache.snapshot import Snapshot
from coherent_cache.snapshot.file import SnapshotFile
from coherent_cache.snapshot.records import Record, Records
from coherent_cache.tier import TypedSerializer

KEYS = ["a secret of more than sixteen bytes"]
RECORDS = [
    Record("m.C.a['\ud800']", "m.C", "0123", {"b": "4567", "": ""}, b"contents"),
    Record("k", "", "89", {}, b"x" * 2_000),
]


def written(keys: list[str]) -> bytes:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "values"
        SnapshotFile(Snapshot(path, keys=keys), "cache").write(r.encoded() for r in RECORDS)
        return path.read_bytes()


WRITTEN = {bool(keys): written(keys) for keys in ([], KEYS)}


def read(data: bytes, **options: Any) -> list[Record]:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "values"
        path.touch(0o600)
        path.write_bytes(data)
        return SnapshotFile(Snapshot(path, **options), "cache").read()


@pytest.mark.parametrize("keys", [[], KEYS])
def test_as_it_was_written(keys: list[str]) -> None:
    assert read(WRITTEN[bool(keys)], keys=keys) == RECORDS


@given(st.booleans(), st.data())
def test_any_flipped_bit(with_keys: bool, data: st.DataObject) -> None:
    damaged = bytearray(WRITTEN[with_keys])
    at = data.draw(st.integers(0, len(damaged) - 1))
    damaged[at] ^= data.draw(st.integers(1, 255))
    assert read(bytes(damaged), keys=KEYS if with_keys else []) == []


@given(st.booleans(), st.data())
def test_any_truncation(with_keys: bool, data: st.DataObject) -> None:
    whole = WRITTEN[with_keys]
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    assert read(cut, keys=KEYS if with_keys else []) == []
    assert read(whole + b"\0", keys=KEYS if with_keys else []) == []


@given(st.binary(max_size=300))
def test_anything(data: bytes) -> None:
    assert read(data) == []


@given(st.binary(max_size=300))
def test_any_bytes_for_records(data: bytes) -> None:
    """What an envelope with a good seal might have in it: records, or a plain error."""
    try:
        found = Records(TypedSerializer()).loads(data)
    except (ValueError, struct.error):
        return
    assert [record.slot for record in found] == [record[:2] for record in found]
    assert sum(len(record.data) for record in found) <= len(data)


text = st.text(max_size=5) | st.just("\ud800\x00")
record = st.builds(
    Record, text, text, text, st.dictionaries(text, text, max_size=2), st.binary(max_size=9)
)


@given(st.lists(record, max_size=4))
def test_records_come_back(records: list[Record]) -> None:
    serializer = Records(TypedSerializer())
    assert serializer.loads(serializer.dumps(r.encoded() for r in records)) == records


def test_sealed_for_another() -> None:
    others: list[dict[str, Any]] = [{"keys": KEYS}, {"application": "other"}, {"version": "2"}]
    for options in others:
        assert read(WRITTEN[False], **options) == []
    assert read(WRITTEN[True]) == []
    assert read(WRITTEN[True], keys=["another secret of sixteen bytes"]) == []
    assert read(WRITTEN[True], keys=["a new secret of sixteen bytes", *KEYS]) == RECORDS


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def _foreign(path: Path) -> None:
    path.write_text("somebody's notes")


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _writable(path: Path) -> None:
    path.chmod(0o666)


def _link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("damage", [_cut, _foreign, _empty, _writable, _link, _pipe])
def test_ignored_with_one_warning_and_replaced(
    damage: Callable[[Path], None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "values"

    def run(answer: int) -> int:
        engine = create_engine(f"sqlite:///{tmp_path}/test.db")
        manager = CacheManager(engine, snapshot=path)
        manager.create_table()
        found = manager.get("k", lambda: answer)
        manager.close()
        engine.dispose()
        return found

    assert run(1) == 1
    damage(path)
    with caplog.at_level(logging.WARNING, "coherent_cache"):
        assert run(2) == 2
    assert caplog.text.count("is not used") == len(caplog.records) == 1
    assert path.is_file()
    assert not path.is_symlink()
    assert path.stat().st_mode & 0o777 == 0o600
    assert run(3) == 2


def test_a_value_of_a_class_that_changed(tmp_path: Path) -> None:
    """What the serializer does not read is computed."""
    engine = create_engine(f"sqlite:///{tmp_path}/test.db")
    manager = CacheManager(engine, snapshot=tmp_path / "values")
    manager.create_table()
    access = manager.core.access
    generation = access.generations(["k"], ())["k"]
    record = Record("k", "", generation, {}, b"no value")
    SnapshotFile(Snapshot(tmp_path / "values"), "cache").write([record.encoded()])
    assert manager.get("k", lambda: 7) == 7
    assert manager.statistics.restored == 1
    manager.close()
    engine.dispose()
