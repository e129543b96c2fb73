"""Which addresses only this machine can reach."""

from __future__ import annotations

import ipaddress


def is_loopback(host: str) -> bool:
    """Say whether ``host`` is an address that only this machine can reach.

    >>> [is_loopback(host) for host in ("localhost", "127.8.8.8", "::1", "0.0.0.0", "example.com")]
    [True, True, True, False, False]
    """
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
