"""What a statement does, told from its text."""

import pytest

from coherent_cache.statements import Kind, effect_of


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT page.updated_at, deleted, call_count, insert_log FROM page",
        "select 'INSERT INTO x', \"update\", `delete` from page -- DELETE FROM page",
        "WITH names AS (SELECT name FROM page) SELECT * FROM names",
        "(SELECT 1) UNION (SELECT 2)",
        "/* UPDATE */ SELECT 1",
        "SELECT LAST_INSERT_ID()",
        "SELECT COUNT(*), MAX(page.version) FROM page WHERE name IN ('a', 'b') AND (1 = 1)",
        "SELECT CAST(CONCAT(LOWER(name), 'x(') AS CHAR(10)) FROM page",
        "SELECT ROW_NUMBER() OVER (PARTITION BY name ORDER BY name) FROM page",
    ],
)
def test_reads(statement: str) -> None:
    assert effect_of(statement, "mysql").kind is Kind.READ


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO page VALUES (1)",
        "WITH gone AS (DELETE FROM page RETURNING name) SELECT * FROM gone",
        "SELECT * FROM page FOR UPDATE",
        "SELECT * FROM page LOCK IN SHARE MODE",
        "SELECT * INTO OUTFILE 'x' FROM page",
        "SELECT /*! SQL_NO_CACHE */ 1",
        "CALL change_pages()",
        "something nobody knows",
    ],
)
def test_may_write(statement: str) -> None:
    assert effect_of(statement, "sqlite").kind is Kind.WRITE


@pytest.mark.parametrize(
    ("statement", "kind", "name"),
    [
        ("COMMIT", Kind.COMMIT, ""),
        ("  end;", Kind.COMMIT, ""),
        ("COMMIT PREPARED 'x'", Kind.OTHER, ""),
        ("ROLLBACK", Kind.ROLLBACK, ""),
        ("ROLLBACK TO SAVEPOINT a1", Kind.ROLLBACK_TO, "a1"),
        ('ROLLBACK TO "a b"', Kind.ROLLBACK_TO, "a b"),
        ("SAVEPOINT `a1`", Kind.SAVEPOINT, "a1"),
        ("RELEASE SAVEPOINT a1", Kind.RELEASE, "a1"),
        ("PREPARE TRANSACTION 'x'", Kind.PREPARE, ""),
        ("SET LOCAL x = 1", Kind.OTHER, ""),
    ],
)
def test_control(statement: str, kind: Kind, name: str) -> None:
    assert effect_of(statement, "postgresql") == (kind, name)


def test_ddl_commits_on_mariadb_only() -> None:
    statement = "CREATE TABLE x (a INTEGER)"
    assert effect_of(statement, "mysql").kind is Kind.MAY_COMMIT
    assert effect_of(statement, "postgresql").kind is Kind.WRITE
    assert effect_of("CREATE TEMPORARY TABLE x (a INTEGER)", "mysql").kind is Kind.WRITE
