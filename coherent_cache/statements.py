"""What a statement does to its transaction, told from its text.

Only what the database or the driver cannot tell has to be found here (see `probe`); where text is
ambiguous it counts as the worse: a write, whose values stay private.
"""

from __future__ import annotations

import enum
import re
from functools import lru_cache
from typing import NamedTuple

from .mariadb_functions import FUNCTIONS, SYNTAX


class Kind(enum.Enum):
    """What a statement does."""

    READ = "reads"
    BEGIN = "begins a transaction"
    SNAPSHOT = "lets the transaction read from a snapshot that was taken elsewhere"
    DECLARE = "opens a cursor, which keeps its snapshot"
    FETCH = "reads from a cursor"
    WRITE = "may write, or take locks, or read newer rows than its snapshot's"
    COMMIT = "commits"
    MAY_COMMIT = "commits, unless it fails before that"
    ROLLBACK = "rolls back"
    PREPARE = "ends the first phase of a two-phase commit"
    SAVEPOINT = "begins a savepoint"
    RELEASE = "releases a savepoint"
    ROLLBACK_TO = "rolls back to a savepoint"
    OTHER = "none of these"


class Effect(NamedTuple):
    """A kind, and the savepoint's name where there is one, or the lock that a BEGIN takes."""

    kind: Kind
    name: str = ""


_COMMENT = r"(?:\s+|--[^\n]*(?:\n|$)|\#[^\n]*(?:\n|$)|/\*(?!M?!).*?\*/)*"
_LEADING = re.compile(_COMMENT + r"\(*" + _COMMENT, re.DOTALL)
_WORD = re.compile(r"[A-Za-z]+")
_NAME = r"(?:[`\"'\[](?P<quoted>[^`\"'\]]+)|(?P<name>[^\s`\"'\[;]+))"
_CONTROL = [
    (
        re.compile(rf"ROLLBACK\s+(?:(?:WORK|TRANSACTION)\s+)?TO\s+(?:SAVEPOINT\s+)?{_NAME}", re.I),
        Kind.ROLLBACK_TO,
    ),
    (re.compile(rf"SAVEPOINT\s+{_NAME}", re.I), Kind.SAVEPOINT),
    (re.compile(rf"RELEASE\s+(?:SAVEPOINT\s+)?{_NAME}", re.I), Kind.RELEASE),
    # The second phase belongs to a transaction that this connection has left behind.
    (
        re.compile(
            r"(?:COMMIT|ROLLBACK)\s+PREPARED\b|XA\s+(?:START|BEGIN|COMMIT|ROLLBACK|RECOVER)", re.I
        ),
        Kind.OTHER,
    ),
    (re.compile(r"PREPARE\s+TRANSACTION\b|XA\s+END\b", re.I), Kind.PREPARE),
    (re.compile(r"(?:COMMIT|END)\b", re.I), Kind.COMMIT),
    (re.compile(r"(?:ROLLBACK|ABORT)\b", re.I), Kind.ROLLBACK),
    (re.compile(r"BEGIN\s+(?P<name>IMMEDIATE|EXCLUSIVE)\b", re.I), Kind.BEGIN),
    (re.compile(r"(?:BEGIN|START\s+TRANSACTION)\b", re.I), Kind.BEGIN),
    (
        re.compile(r"(?:XA|SHOW|DESCRIBE|DESC|DEALLOCATE|DISCARD)\b", re.I),
        Kind.OTHER,
    ),
    (re.compile(r"SET\s+TRANSACTION\s+SNAPSHOT\b", re.I), Kind.SNAPSHOT),
    (re.compile(r"DECLARE\b", re.I), Kind.DECLARE),
    (re.compile(r"(?:FETCH|MOVE)\b", re.I), Kind.FETCH),
    # Neither MariaDB's SET STATEMENT … FOR UPDATE … nor a function that may write.
    (re.compile(r"SET\s+(?!GLOBAL|PASSWORD|STATEMENT)[^(]*$", re.I), Kind.OTHER),
    (re.compile(r"PRAGMA\s+query_only\b", re.I), Kind.OTHER),
    (re.compile(r"PRAGMA\s+[\w.]+\s*(?:\([^)]*\))?\s*;?\s*$", re.I), Kind.OTHER),
]
_QUOTED = re.compile(
    r"'(?:[^'\\]|\\.|'')*'|\"(?:[^\"]|\"\")*\"|`[^`]*`|--[^\n]*|/\*(?!M?!).*?\*/", re.DOTALL
)
# Nobody but the text tells there, so it is read as the server reads it: "--" begins a comment
# only before white space ("a--1" is a sum), "#" does too.  (Test: test_case_18_hidden_in_text.)
_QUOTED_MARIADB = re.compile(
    r"'(?:[^'\\]|\\.|'')*'|\"(?:[^\"\\]|\\.|\"\")*\"|`[^`]*`"
    r"|--(?=\s|$)[^\n]*|\#[^\n]*|/\*(?!M?!).*?\*/",
    re.DOTALL,
)
# A name, or what stands for a quoted one, before a parenthesis.
_CALL = re.compile(r"(?:\b([A-Za-z_][\w$]*)|'')\s*\(")
_WRITES = re.compile(
    r"\b(?:INSERT|UPDATE|DELETE|MERGE|INTO|CALL|FOR\s+SHARE|FOR\s+KEY\s+SHARE"
    r"|LOCK\s+IN\s+SHARE\s+MODE|NEXTVAL|SETVAL)\b|\bLAST_INSERT_ID\s*\(\s*[^\s)]|/\*M?!",
    re.I,
)  # FOR UPDATE and FOR NO KEY UPDATE contain UPDATE
_READERS = {"SELECT", "WITH", "VALUES", "TABLE", "EXPLAIN"}

#: Statements before and after which MariaDB and MySQL commit, whatever the transaction says.
_IMPLICIT_COMMIT = {
    "ALTER", "ANALYZE", "CHANGE", "CHECK", "CREATE", "DROP", "FLUSH", "GRANT", "INSTALL", "LOCK",
    "OPTIMIZE", "RENAME", "REPAIR", "RESET", "REVOKE", "START", "TRUNCATE", "UNINSTALL", "UNLOCK",
    "BEGIN",
}  # fmt: skip
#: Stored code without a name: it begins no transaction, and may write.
_COMPOUND = re.compile(r"BEGIN\s+NOT\s+ATOMIC\b", re.I)
_ENABLES_AUTOCOMMIT = re.compile(
    r"SET\s+(?:PASSWORD|(?:@@)?(?:SESSION[.\s]\s*)?AUTOCOMMIT\s*=\s*(?:1|ON))", re.I
)
_TEMPORARY = re.compile(r"(?:CREATE(?:\s+OR\s+REPLACE)?|DROP)\s+TEMPORARY\b", re.I)


def effect_of(statement: str, dialect: str) -> Effect:
    """Return what *statement* does on the database called *dialect*."""
    if len(statement) > 4096:  # not worth remembering
        return _effect_of(statement, dialect)
    return _remembered_effect_of(statement, dialect)


def _effect_of(statement: str, dialect: str) -> Effect:
    start = _LEADING.match(statement)
    text = statement[start.end() if start else 0 :]
    word = _WORD.match(text)
    first = word.group().upper() if word else ""
    is_mariadb = dialect in ("mysql", "mariadb")
    if first in _READERS:
        bare = (_QUOTED_MARIADB if is_mariadb else _QUOTED).sub("''", text)
        may_write = _WRITES.search(bare) or (is_mariadb and _calls_stored_code(bare))
        return Effect(Kind.WRITE if may_write else Kind.READ)
    if is_mariadb and _COMPOUND.match(text):
        return Effect(Kind.WRITE)
    if is_mariadb and (
        (first in _IMPLICIT_COMMIT and not _TEMPORARY.match(text))
        or _ENABLES_AUTOCOMMIT.match(text)
    ):
        return Effect(Kind.COMMIT if first in ("BEGIN", "START", "SET") else Kind.MAY_COMMIT)
    for pattern, kind in _CONTROL:
        match = pattern.match(text)
        if match:
            return Effect(kind, _name(kind, match.groupdict(), dialect))
    return Effect(Kind.WRITE)


def _calls_stored_code(bare: str) -> bool:
    """Whether a function is called that may be a stored one, which may write."""
    return any(
        not name or not (name.lower() in FUNCTIONS or name.lower() in SYNTAX)
        for name in _CALL.findall(bare)
    )


def _name(kind: Kind, groups: dict[str, str | None], dialect: str) -> str:
    """The lock that a BEGIN takes, or a savepoint's name as the database compares it: x and X
    are one, and a rollback to either is to the innermost of them."""
    if kind is Kind.BEGIN:
        return (groups.get("name") or "").upper()
    quoted = groups.get("quoted")
    if quoted is not None and dialect == "postgresql":
        return quoted
    return (quoted or groups.get("name") or "").lower()


_remembered_effect_of = lru_cache(maxsize=2048)(_effect_of)
