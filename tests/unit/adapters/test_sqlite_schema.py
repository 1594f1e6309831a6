"""Migrations of a SQLite database."""

from __future__ import annotations

import sqlite3

import pytest

from lambdad.adapters.sqlite_schema import NewerSchema, migrate

FIRST = "CREATE TABLE a (x TEXT DEFAULT 'semi;colon'); INSERT INTO a (x) VALUES ('one; two');"
SECOND = """
    -- A comment; with a semicolon.
    ALTER TABLE a ADD COLUMN y INTEGER NOT NULL DEFAULT 7;
    CREATE TRIGGER t AFTER INSERT ON a BEGIN UPDATE a SET y = 8; UPDATE a SET y = 9; END
"""


@pytest.fixture
def connection() -> sqlite3.Connection:
    return sqlite3.connect(":memory:", isolation_level=None)


def version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def test_migrations_run_once_and_in_order(connection: sqlite3.Connection) -> None:
    migrate(connection, [FIRST], "the database")
    assert version(connection) == 1
    migrate(connection, [FIRST, SECOND], "the database")
    assert version(connection) == 2
    assert connection.execute("SELECT x, y FROM a").fetchall() == [("one; two", 7)]
    migrate(connection, [FIRST, SECOND], "the database")
    assert connection.execute("SELECT count(*) FROM a").fetchone() == (1,)
    connection.execute("INSERT INTO a (x) VALUES ('new')")
    assert connection.execute("SELECT DISTINCT y FROM a").fetchall() == [(9,)]


def test_a_database_of_a_newer_version_is_refused_and_left_alone(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA user_version = 3")
    with pytest.raises(NewerSchema, match="The store has schema version 3, and this lambdad knows versions up to 2"):
        migrate(connection, [FIRST, SECOND], "The store")
    assert version(connection) == 3
    assert connection.execute("SELECT count(*) FROM sqlite_schema").fetchone() == (0,)


def test_a_migration_that_fails_leaves_the_last_good_version(connection: sqlite3.Connection) -> None:
    with pytest.raises(sqlite3.OperationalError):
        migrate(connection, [FIRST, "CREATE TABLE b (x); INSERT INTO nowhere VALUES (1);"], "the database")
    assert version(connection) == 1
    assert not connection.in_transaction
    assert connection.execute("SELECT name FROM sqlite_schema").fetchall() == [("a",)]
    migrate(connection, [FIRST, SECOND], "the database")
    assert version(connection) == 2


def test_an_incomplete_statement_is_a_mistake(connection: sqlite3.Connection) -> None:
    with pytest.raises(ValueError, match="An incomplete statement"):
        migrate(connection, ["CREATE TABLE a (x DEFAULT 'open"], "the database")
    assert version(connection) == 0
