"""Errors of the server itself; what a caller gets is a :class:`api.problems.Problem`.

::

    ApiError
    ├── SettingsError    a setting is wrong (one line per mistake, naming the setting)
    └── PoolFull         every search thread is busy and the queue is full: try again shortly
"""

from __future__ import annotations


class ApiError(Exception):
    """Anything that the server raises on purpose."""


class SettingsError(ApiError):
    """A setting is wrong; the message has one line per mistake."""


class PoolFull(ApiError):
    """Every search thread is busy and the queue is full."""
