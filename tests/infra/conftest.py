"""What tests of ``infra/`` share with those of the server."""

from __future__ import annotations

from tests.api.conftest import library, serve

__all__ = ["library", "serve"]
