"""Where the command finds things: options first, then the environment, then defaults.

The command reads the environment here and nowhere else (Spark's, the models' and the store's own variables aside).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

DEFAULT_STORE = ".grebe/store"
DEFAULT_CACHE = ".grebe/cache"
DEFAULT_DATA = "../shared/data"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """``store`` is a folder or a bucket's address; ``cache`` a local folder; ``data`` holds the evaluation sets."""

    store: str
    cache: Path
    data: Path
    debug: bool

    @classmethod
    def read(cls, *, store: str | None = None, environment: Mapping[str, str] | None = None) -> Settings:
        """Return the settings of ``environment`` (the process's own, if None); ``store`` given on the way wins.

        >>> Settings.read(store="s3://bucket/search", environment={"GREBE_CACHE": "/tmp/c"}).store
        's3://bucket/search'
        """
        given = os.environ if environment is None else environment
        return cls(
            store=store or given.get("GREBE_STORE") or DEFAULT_STORE,
            cache=Path(given.get("GREBE_CACHE") or DEFAULT_CACHE),
            data=Path(given.get("GREBE_DATA") or DEFAULT_DATA),
            debug=given.get("GREBE_DEBUG", "") not in {"", "0"},
        )
