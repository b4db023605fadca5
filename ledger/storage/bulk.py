"""Many rows at once, by the fastest way that each database has.

Source: PostgreSQL documentation, COPY (binary format); psycopg 3, COPY support.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import BigInteger, Boolean, Connection, Integer, LargeBinary, Table
from sqlalchemy.sql.type_api import TypeEngine

_TYPES: tuple[tuple[type[TypeEngine[Any]], str], ...] = (
    (BigInteger, "int8"),
    (Integer, "int4"),
    (Boolean, "bool"),
    (LargeBinary, "bytea"),
)


def bulk_insert(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows that all have the same columns.

    Args:
        connection: In a write transaction.
        table: Where.
        rows: Values by column name, the same names in each; none does nothing.
    """
    if rows:
        bulk_insert_rows(connection, table, list(rows[0]), [tuple(row.values()) for row in rows])


def bulk_insert_rows(
    connection: Connection, table: Table, names: Sequence[str], rows: Sequence[tuple[Any, ...]]
) -> None:
    """Insert rows of values: with COPY on PostgreSQL, as one prepared statement elsewhere.

    Args:
        connection: In a write transaction.
        table: Where.
        names: Columns.
        rows: Values in the order of the names; none does nothing.
    """
    if not rows:
        return
    quote = connection.dialect.identifier_preparer.quote
    columns = ", ".join(quote(name) for name in names)
    if connection.dialect.name != "postgresql":
        # The driver takes these values as they are; SQLAlchemy would handle each one by itself.
        marks = ", ".join("?" * len(names))
        statement = f"INSERT INTO {quote(table.name)} ({columns}) VALUES ({marks})"  # noqa: S608 - names of our own
        connection.exec_driver_sql(statement, list(rows))
        return
    statement = f"COPY {quote(table.name)} ({columns}) FROM STDIN (FORMAT BINARY)"
    driver: Any = connection.connection.dbapi_connection
    with driver.cursor() as cursor, cursor.copy(statement) as copy:
        copy.set_types([_type_name(table.c[name].type) for name in names])
        for row in rows:
            copy.write_row(row)


def _type_name(kind: TypeEngine[Any]) -> str:
    return next((name for base, name in _TYPES if isinstance(kind, base)), "text")
