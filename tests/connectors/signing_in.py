"""Signing in to the emulated account the way users do: by a connection of connections.toml."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from connectors.snowflake_session import SignIn
from tests.snowflake.server import SnowflakeServer


def connections_file(folder: Path, parameters: dict[str, Any], name: str = "emulated") -> Path:
    """Write a connections.toml with one connection, readable by its owner alone, as the connector wants it."""
    path = folder / "connections.toml"
    lines = [
        f"{key} = {str(value).lower() if isinstance(value, bool) else repr(value)}" for key, value in parameters.items()
    ]
    path.touch(mode=0o600)
    path.write_text(f"[{name}]\n" + "\n".join(lines) + "\n")
    return path


@pytest.fixture
def sign_in(snowflake: SnowflakeServer, tmp_path: Path) -> SignIn:
    """Return how to sign in to the emulated account; the password is in a file and nowhere else."""
    parameters = snowflake.connection_parameters()
    return SignIn(
        connection="emulated", connections_file=str(connections_file(tmp_path, parameters)), tag="grebe tests"
    )
