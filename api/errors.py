"""Errors of the server itself; what a caller gets is a :class:`api.problems.Problem`.

::

    ApiError
    ├── SettingsError    a setting is wrong (one line per mistake, naming the setting)
    ├── ControlError     the store's keys and roles could not be read or changed
    ├── PoolFull         every search thread is busy and the queue is full: try again shortly
    ├── TokenRefused     a bearer token is not taken (one sentence that may be shown to the caller)
    ├── AuditUnavailable a record cannot be made durable, so nothing may run: try again shortly
    ├── AuditBusy        another process writes its audit log to that folder
    ├── AuditConflict    the store holds other audit records where this server's belong
    └── AuditUnreadable  a file of the audit log cannot be read
"""

from __future__ import annotations


class ApiError(Exception):
    """Anything that the server raises on purpose."""


class SettingsError(ApiError):
    """A setting is wrong; the message has one line per mistake."""


class ControlError(ApiError):
    """The store's keys and roles could not be read or changed; trying again helps if the store was at fault."""


class PoolFull(ApiError):
    """Every search thread is busy and the queue is full."""


class TokenRefused(ApiError):
    """A bearer token is not taken; the message says why, for the caller, and never quotes the token."""


class AuditUnavailable(ApiError):
    """A record of the audit log cannot be made durable, so what it tells of may not run."""


class AuditBusy(ApiError):
    """Another process writes its audit log to that folder."""


class AuditConflict(ApiError):
    """The store holds other audit records where this server's belong."""


class AuditUnreadable(ApiError):
    """A file of the audit log cannot be read; the message names it."""
