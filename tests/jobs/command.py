"""The ``grebe`` command as a test calls it: in this process, with what it printed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from jobs.cli import main


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Grebe = Callable[..., Said]


def grebe_on(capfd: pytest.CaptureFixture[str]) -> Grebe:
    """Return the command, whose output is read from ``capfd``."""

    def run(*arguments: object) -> Said:
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return Said(int(ended.value.code or 0), out, err)

    return run
