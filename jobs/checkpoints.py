"""How far an audit log was when it was last verified, in a file elsewhere than the log."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path

from api.audit.chain import Checkpoint
from jobs.errors import CommandError


def read_checkpoints(path: Path) -> list[Checkpoint]:
    """Return the checkpoints in ``path``, none where there is no such file; raises CommandError."""
    try:
        return [Checkpoint(**found) for found in json.loads(path.read_text(encoding="utf-8"))]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError) as error:
        raise CommandError(f"{path}: cannot be read as what an earlier `grebe audit verify` left there") from error


def write_checkpoints(path: Path, checkpoints: Iterable[Checkpoint]) -> None:
    """Write ``checkpoints`` to ``path``, in place of those before; raises CommandError."""
    part = path.with_name(f"{path.name}.part")
    try:
        part.write_text(json.dumps([dataclasses.asdict(each) for each in checkpoints]), encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise CommandError(f"{path}: cannot be written: {error.strerror}") from error
