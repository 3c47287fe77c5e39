"""Values as bytes: what a payload is checked for, and what reading one may cost."""

from .mutant import Mutant

_ENVELOPE = "sealing/test_envelope.py"
_SERIALIZERS = "sealing/test_serializers.py"


def _mac_without(part: str, first: int, end: int | None) -> Mutant:
    """The MAC leaves out the texts *first* to *end* of the fields."""
    return Mutant(
        f"mac-leaves-out-{part}",
        "sealing/seals.py",
        '        data = b"".join(parts)\n',
        "        rest, texts = parts[1], []\n"
        "        while rest:\n"
        '            size = 4 + int.from_bytes(rest[:4], "big")\n'
        "            texts.append(rest[:size])\n"
        "            rest = rest[size:]\n"
        f"        del texts[{first}:{end}]\n"
        '        data = b"".join((parts[0], *texts, parts[2]))\n',
        (f"{_ENVELOPE}::test_all_parts_are_authenticated[{part}]",),
    )


MUTANTS = [
    _mac_without("application", 0, 1),
    _mac_without("key", 3, 4),
    _mac_without("variant", 4, 5),
    _mac_without("generation", 5, 6),
    _mac_without("dependencies", 6, None),
    Mutant(
        "mac-leaves-out-the-value",
        "sealing/seals.py",
        'data = b"".join(parts)',
        'data = b"".join(parts[:2])',
        (
            f"{_ENVELOPE}::test_every_byte_counts",
            f"{_ENVELOPE}::test_nothing_is_unpickled_without_a_valid_seal",
        ),
    ),
    Mutant(
        "mac-leaves-out-the-head",
        "sealing/seals.py",
        'data = b"".join(parts)',
        'data = b"".join(parts[1:])',
        (f"{_ENVELOPE}::test_nothing_is_inflated_or_read_without_a_valid_seal",),
    ),
    Mutant(
        "mac-is-not-compared",
        "sealing/seals.py",
        "good |= hmac.compare_digest(self._seal(key, parts), seal)",
        "good |= len(self._seal(key, parts)) == len(seal)",
        (f"{_ENVELOPE}::test_every_byte_counts", f"{_ENVELOPE}::test_not_by_another_configuration"),
    ),
    Mutant(
        "mac-of-the-first-key-only",
        "sealing/seals.py",
        "for key in self._keys or (None,):",
        "for key in self._keys[:1] or (None,):",
        (f"{_ENVELOPE}::test_keys_are_changed_one_after_the_other",),
    ),
    Mutant(
        "mac-is-verified-after-reading",
        "sealing/envelope.py",
        "        if not self._seals.verify(seal, head, fields, data):\n",
        "        self._serializer.loads(data)\n"
        "        if not self._seals.verify(seal, head, fields, data):\n",
        (f"{_ENVELOPE}::test_nothing_is_unpickled_without_a_valid_seal",),
    ),
    Mutant(
        "mac-is-verified-after-inflating",
        "sealing/envelope.py",
        "        if not self._seals.verify(seal, head, fields, data):\n",
        "        if head[5] == _COMPRESSED:\n"
        "            _decompressed(data, self._max_bytes)\n"
        "        if not self._seals.verify(seal, head, fields, data):\n",
        (f"{_ENVELOPE}::test_nothing_is_inflated_or_read_without_a_valid_seal",),
    ),
    Mutant(
        "address-is-not-compared",
        "sealing/envelope.py",
        "            if text != ours:\n",
        "            if False:\n",
        (
            f"{_ENVELOPE}::test_not_at_another_address",
            f"{_ENVELOPE}::test_the_border_between_two_parts",
        ),
    ),
    Mutant(
        "pickle-without-keys",
        "sealing/envelope.py",
        'if not self._seals.authentic and getattr(serializer, "safe", False) is not True:',
        "if False:",
        (f"{_ENVELOPE}::test_configurations_that_cannot_be",),
    ),
    Mutant(
        "short-keys",
        "sealing/seals.py",
        "if len(taken) < MIN_KEY_BYTES:",
        "if not taken:",
        (f"{_ENVELOPE}::test_configurations_that_cannot_be",),
    ),
    Mutant(
        "bombs-are-inflated",
        "sealing/envelope.py",
        "inflater.decompress(data, max(max_bytes, 0) + 1)",
        "inflater.decompress(data)",
        (f"{_ENVELOPE}::test_a_decompression_bomb_is_not_inflated",),
    ),
    Mutant(
        "compressed-value-is-cut-or-followed",
        "sealing/envelope.py",
        "if not inflater.eof or inflater.unused_data:",
        "if False:",
        (f"{_ENVELOPE}::test_forged_with_the_right_digest",),
    ),
    Mutant(
        "keys-with-one-hash",
        "sealing/encoding.py",
        "    return len(keys) > MAX_EQUAL_HASHES and (\n",
        "    return False and (\n",
        (
            f"{_SERIALIZERS}::test_what_takes_the_square_of_its_length_is_refused",
            f"{_SERIALIZERS}::test_keys_with_one_hash_are_refused",
        ),
    ),
    Mutant(
        "long-fractions-are-read",
        "sealing/decoding.py",
        "if len(part) > MAX_FRACTION_BYTES:",
        "if False:",
        (f"{_SERIALIZERS}::test_what_takes_the_square_of_its_length_is_refused",),
    ),
    Mutant(
        "subclasses-are-taken",
        "sealing/encoding.py",
        "write = _WRITERS.get(kind)",
        "write = next((_WRITERS[base] for base in kind.__mro__ if base in _WRITERS), None)",
        (f"{_SERIALIZERS}::test_what_would_not_come_back_is_refused",),
    ),
    Mutant(
        "any-zone-is-taken-by-its-name",
        "sealing/encoding.py",
        " and ZoneInfo(zone.key) is zone",
        "",
        (f"{_SERIALIZERS}::test_a_zone_of_somebodys_own_is_refused",),
    ),
    Mutant(
        "shared-values-have-no-end",
        "sealing/encoding.py",
        "        self._path.append(container)\n        self._check_size()\n",
        "        self._path.append(container)\n",
        (f"{_SERIALIZERS}::test_what_is_shared_is_written_again_and_again_up_to_a_limit",),
    ),
    Mutant(
        "depth-of-bytes-is-not-bounded",
        "sealing/serializers.py",
        "        except Exception as error:  # RecursionError and what user code raises, too",
        "        except (ValueError, LookupError, TypeError) as error:",
        (f"{_SERIALIZERS}::test_who_is_deep_in_the_stack_already",),
    ),
    Mutant(
        "reading-a-dataclass-makes-it-anew",
        "sealing/classes.py",
        "        instance = object.__new__(cls)\n",
        "        instance = cls(items[0])\n",
        (f"{_SERIALIZERS}::test_reading_a_dataclass_runs_nothing_of_it",),
    ),
    Mutant(
        "repeated-keys-are-read",
        "sealing/decoding.py",
        "        if len(value) != len(items):\n",
        "        if False:\n",
        (f"{_SERIALIZERS}::test_hostile_bytes",),
    ),
]
