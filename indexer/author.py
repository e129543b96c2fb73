"""Who runs this process, for records of who changed what."""

from __future__ import annotations

import getpass
import os
import socket


def author() -> str:
    """Return ``user@host``; a user without a name, as in some containers, by number."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # no such user in the system's list, and no variable that says it
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"
