"""What Snowflake says when a statement fails: code, SQLSTATE and text, each where the documentation shows it."""

from __future__ import annotations


class SqlFailure(Exception):
    """A statement that failed; the connector raises it with the same ``errno``, ``sqlstate`` and ``msg``."""

    def __init__(self, code: int, sqlstate: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.sqlstate = sqlstate
        self.message = message
        self.query_id: str | None = None


def beyond_time_travel(table: str) -> SqlFailure:
    """Snowflake docs, SQL reference, "AT | BEFORE", examples: error 000707 (02000)."""
    return SqlFailure(
        707,
        "02000",
        f"Time travel data is not available for table {table}. The requested time is either beyond the allowed time "
        "travel period or before the object creation time.",
    )


def future_data(table: str) -> SqlFailure:
    """What a time after the server's own is told; the text from experience, the number a guess: no page has them."""
    return SqlFailure(708, "02000", f"Future data is not yet available for table {table}.")


def change_tracking_missing(table: str) -> SqlFailure:
    """Snowflake docs, user guide, "Dynamic tables: data sharing", error 091930 (2F003)."""
    return SqlFailure(
        91930,
        "2F003",
        "SQL compilation error:\nChange tracking is not enabled or has been missing for the time range requested on "
        f"table '{table}'.",
    )


def no_such_object(name: str) -> SqlFailure:
    """Error 002003 (42S02), which does not tell what is missing from what is forbidden."""
    return SqlFailure(2003, "42S02", f"SQL compilation error:\nObject '{name}' does not exist or not authorized.")


def already_exists(name: str) -> SqlFailure:
    """Error 002002 (42710)."""
    return SqlFailure(2002, "42710", f"SQL compilation error:\nObject '{name}' already exists.")


def invalid_identifier(name: str) -> SqlFailure:
    """Error 000904 (42000)."""
    return SqlFailure(904, "42000", f"SQL compilation error:\ninvalid identifier '{name}'")


def statement_not_found(query_id: str) -> SqlFailure:
    """Error 000709 (02000)."""
    return SqlFailure(709, "02000", f"Statement {query_id} not found")


def result_expired(query_id: str) -> SqlFailure:
    """Error 000612 (02000), for a query that ran more than a day ago; from experience, no page documents it."""
    return SqlFailure(612, "02000", f"Result for query {query_id} has expired")


def unsupported(what: str) -> SqlFailure:
    """The emulator's own limit, never to be taken for Snowflake's answer."""
    return SqlFailure(9999, "0A000", f"The Snowflake emulator of Grebe's tests does not support {what}.")
