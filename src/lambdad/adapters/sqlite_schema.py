"""Numbered migrations of a SQLite database, counted in its `user_version`."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from lambdad.domain.errors import LambdadError


class NewerSchema(LambdadError):
    """The database was written by a newer lambdad than this one."""

    def __init__(self, what: str, found: int, known: int) -> None:
        super().__init__(
            f"{what} has schema version {found}, and this lambdad knows versions up to {known}: "
            "it was last opened by a newer lambdad. Run that version or a later one, or use another data directory."
        )
        self.found = found
        self.known = known


def migrate(connection: sqlite3.Connection, migrations: Sequence[str], what: str) -> None:
    """Bring a database to the schema that this version knows, each migration in a transaction of its own.

    Migration number n is `migrations[n - 1]`, any number of statements without transaction control. `what` names the
    database in messages. Raises NewerSchema, having changed nothing, when the database is ahead of `migrations`.
    """
    found: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if found > len(migrations):
        raise NewerSchema(what, found, len(migrations))
    for number, statements in enumerate(migrations[found:], found + 1):
        try:
            # A version that another process reached meanwhile is left alone.
            connection.execute("BEGIN IMMEDIATE")
            if connection.execute("PRAGMA user_version").fetchone()[0] < number:
                for statement in _statements(statements):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {number}")
            connection.execute("COMMIT")
        except BaseException:  # whatever stopped it, a migration is done whole or not at all
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def _statements(script: str) -> list[str]:
    """The statements of a script; `executescript` would commit between them."""
    statements = []
    gathered = ""
    for piece in script.split(";"):
        gathered += piece + ";"
        if sqlite3.complete_statement(gathered):
            if gathered.strip(" \t\r\n;"):
                statements.append(gathered.strip())
            gathered = ""
    if gathered.strip(" \t\r\n;"):
        raise ValueError(f"An incomplete statement in a migration: {gathered.strip()}")
    return statements
