"""Errors that a source raises.

::

    SourceError
    ├── SourceNotFound         the table does not exist or cannot be reached
    │   └── SignInFailed       the source did not let us in (the message says where it looked for credentials)
    ├── ChangesUnavailable     the table keeps no change feed (the message says how to turn it on)
    ├── HistoryBroken          what was read last and what is there now are not joined by changes: a resync heals it
    │   ├── HistoryExpired     the wanted version is gone: VACUUM or retention took it
    │   ├── ChangesInterrupted changes cannot be read across a place (the feed was off, a column was renamed)
    │   └── SourceRecreated    a table of the same name, but not the same table
    ├── BatchLost              a batch of a query's result can no longer be fetched: the query has to be run anew
    ├── SchemaMismatch         a column that the spec names is missing or of another type
    ├── JavaMissing            there is no Java that Spark can use (the message has the line that installs it)
    └── SessionFailed          Spark did not start
"""

from __future__ import annotations


class SourceError(Exception):
    """A source could not be read."""


class SourceNotFound(SourceError):
    """The table does not exist, or its location cannot be reached."""


class SignInFailed(SourceNotFound):
    """The source did not let us in: there are no credentials, or it refused them."""


class ChangesUnavailable(SourceError):
    """The table keeps no change feed."""


class HistoryBroken(SourceError):
    """No changes lead from what was read last to what is there now; comparing the whole table heals that."""


class HistoryExpired(HistoryBroken):
    """The wanted version is no longer kept by the source."""


class ChangesInterrupted(HistoryBroken):
    """Changes cannot be read across a place in the table's history."""


class SourceRecreated(HistoryBroken):
    """The table was dropped and created anew: its id is not the one the catalog knows."""


class BatchLost(SourceError):
    """A batch of a result can no longer be fetched: the window that it is of has to be planned anew."""


class SchemaMismatch(SourceError):
    """A column that the spec names is missing at the source, or has an unusable type."""


class JavaMissing(SourceError):
    """There is no Java on this machine that Spark can use."""


class SessionFailed(SourceError):
    """Spark did not start: the message has the reason that the JVM gave."""
