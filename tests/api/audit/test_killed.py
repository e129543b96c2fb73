"""A server that is killed has every record that it told anybody of."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

from tests.api.audit.scene import entries_in, journal_in, require_sound

KILLS = 5


def test_what_was_acknowledged_outlives_kills(tmp_path: Path) -> None:
    moments = random.Random(7)
    acknowledged: set[int] = set()

    for _ in range(KILLS):
        child = subprocess.Popen(
            [sys.executable, "-m", "tests.api.audit.child", str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        first = child.stdout.readline()
        time.sleep(moments.uniform(0, 0.2))
        child.kill()
        rest, _ = child.communicate()
        numbers = (first + rest).splitlines(keepends=True)
        acknowledged.update(int(number) for number in numbers if number.endswith("\n"))

    with journal_in(tmp_path):
        pass

    written = {entry.seq for entry in entries_in(tmp_path)}
    assert len(acknowledged) > KILLS
    assert acknowledged <= written
    require_sound(tmp_path)
