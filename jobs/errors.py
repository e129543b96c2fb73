"""Errors of the command itself.

::

    CommandError
    └── EvaluationError    an evaluation set or what it needs is missing
"""

from __future__ import annotations


class CommandError(Exception):
    """The command cannot do what it was asked to; the message says what to do instead."""


class EvaluationError(CommandError):
    """An evaluation set, or a package that the evaluation needs, is missing."""
