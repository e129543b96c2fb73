"""The journal that gets killed: ``python -m tests.api.audit.child FOLDER`` prints the number of each durable record."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from api.audit.journal import Journal
from tests.api.audit.scene import journal_in, search


async def append_forever(journal: Journal) -> None:
    """Append one record after the other."""
    while True:
        number = await journal.append(search(1))
        os.write(1, b"%d\n" % number)


async def crowd(journal: Journal) -> None:
    """Append from eight places at once."""
    await asyncio.gather(*(append_forever(journal) for _ in range(8)))


if __name__ == "__main__":
    with journal_in(Path(sys.argv[1])) as started:
        asyncio.run(crowd(started))
