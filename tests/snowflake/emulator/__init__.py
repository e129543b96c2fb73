"""An emulated Snowflake account: DuckDB keeps the rows, fakesnow translates the SQL, the rest is here.

A statement comes in by ``service`` (HTTP) and ``account`` (tokens, results), is parsed and run by ``session`` and what
it calls: ``reading`` (queries, ``travel`` for those of the past), ``writing`` and ``rows`` (DML on a table's log),
``defining`` and ``places`` (DDL), ``listing`` (SHOW and DESCRIBE). ``arrow_wire`` and ``results`` send what it found.
``control`` is the tests' own door.

What the real service does and this does not: stages (PUT, COPY, ``write_pandas``), streams and tasks, CHANGES and AT on
views, UNDROP, AUTOINCREMENT, the offset of a TIMESTAMP_TZ (its moment is right, its offset always UTC), more than
microseconds, roles and grants, several statements in one request, the state of a query that still runs, and going on in
a transaction after one of its statements failed. Asked for, most fail with the emulator's own error, 009999.
"""
