"""A table on S3, against moto's server over HTTP: the real Hadoop client, the real AWS environment variables."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from moto.server import ThreadedMotoServer


@pytest.fixture
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.mark.soak
def test_a_table_on_s3_is_read_like_a_path(endpoint: str) -> None:
    urlopen(Request(f"{endpoint}/lake", method="PUT")).close()
    environment = {
        **os.environ,
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "grebe",
        "AWS_SECRET_ACCESS_KEY": "grebe-secret",
        "AWS_REGION": "us-east-1",
    }

    run = subprocess.run(
        [sys.executable, "-m", "tests.connectors.s3_round_trip", "s3://lake/birds"],
        cwd=Path(__file__).parents[2],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )

    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout) == {
        "changes": [[0, 1, [[1, "a", "upsert", 1]]]],
        "snapshot": [[1, "a", "upsert", 1]],
    }
    assert run.stderr == ""
