"""Where this user's caches are."""

from __future__ import annotations

import os
from pathlib import Path


def user_cache() -> Path:
    """Return Grebe's folder among the user's caches; raises RuntimeError where the user has no home."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "grebe"
