"""The console's modules that know no page."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

NODE = shutil.which("node")


@pytest.mark.skipif(NODE is None, reason="there is no node: apt-get install nodejs")
def test_the_modules_that_know_no_page_do_what_their_own_tests_say() -> None:
    assert NODE is not None
    command = [NODE, "--test", str(Path(__file__).with_name("pure.test.mjs"))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
