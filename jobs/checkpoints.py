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
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, list):
            raise ValueError("expected a list")
        return [Checkpoint(**each) for each in found]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError) as error:
        raise CommandError(f"{path}: cannot be read as what an earlier `grebe audit verify` left there") from error


def write_checkpoints(path: Path, known: Iterable[Checkpoint], found: Iterable[Checkpoint]) -> None:
    """Write the furthest checkpoint of each writer to ``path``: what is ``known`` is never forgotten.

    Raises CommandError.
    """
    furthest: dict[str, Checkpoint] = {}
    for each in (*known, *found):
        if each.writer not in furthest or each.seq > furthest[each.writer].seq:
            furthest[each.writer] = each
    part = path.with_name(f"{path.name}.part")
    try:
        part.write_text(json.dumps([dataclasses.asdict(each) for each in furthest.values()]), encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise CommandError(f"{path}: cannot be written: {error.strerror}") from error
