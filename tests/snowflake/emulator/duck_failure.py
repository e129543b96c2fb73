"""DuckDB's and fakesnow's errors as Snowflake's."""

from __future__ import annotations

import re

from tests.snowflake.emulator.failure import SqlFailure, invalid_identifier, no_such_object
from tests.snowflake.emulator.naming import shown


def of_duckdb(error: Exception) -> SqlFailure:
    """Return Snowflake's failure for one of DuckDB's or fakesnow's, as near as their kinds allow."""
    if hasattr(error, "errno"):
        return SqlFailure(
            int(error.errno or 1), str(getattr(error, "sqlstate", "") or ""), str(getattr(error, "msg", error))
        )
    text, kind = str(error), type(error).__name__
    if kind == "BinderException" and (found := re.search(r'column "([^"]+)" not found|named "([^"]+)"', text)):
        return invalid_identifier(shown(found[1] or found[2]))
    if kind == "CatalogException" and (found := re.search(r"Function with name (\S+) does not exist", text)):
        return SqlFailure(2140, "42601", f"SQL compilation error:\nUnknown function {found[1].upper()}")
    if kind == "CatalogException" and (found := re.search(r"with name (\S+) does not exist", text)):
        return no_such_object(shown(found[1]))
    if kind == "ConstraintException" and (found := re.search(r"NOT NULL constraint failed: \S+\.(\S+)", text)):
        return SqlFailure(100072, "22000", f"NULL result in a non-nullable column: {shown(found[1])}")
    if kind == "TransactionException" and "onflict" in text:
        return SqlFailure(625, "57014", "Statement has waited for a lock of another transaction and has been aborted.")
    if kind == "ConversionException":
        return SqlFailure(100038, "22018", text.split("\n")[0])
    return SqlFailure(1003, "42000", f"SQL compilation error:\n{text}")
