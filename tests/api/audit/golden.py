"""The golden log of format version 1, shipped in part: ``python -m tests.api.audit.golden`` writes it anew.

Only a new version of the format is a reason for that.
"""

from __future__ import annotations

from pathlib import Path

from api.audit.files import journal_files
from api.audit.shipping import Shipper
from indexer.format.store import Store
from tests.api.audit.scene import bodies, signing_key, writer_in

FOLDER = Path(__file__).parents[2] / "golden" / "audit-v1"
STORE, JOURNAL = FOLDER / "store", FOLDER / "journal"


def main() -> None:
    """Write the golden files."""
    JOURNAL.mkdir(parents=True)
    writer = writer_in(JOURNAL)
    writer.open()
    for _ in range(3):
        writer.commit(bodies(2), last=True)
    writer.close()
    (JOURNAL / "lock").unlink()
    shipper = Shipper(Store.at(str(STORE)), signing_key())
    for path in journal_files(JOURNAL)[:2]:
        shipper.ship(path)


if __name__ == "__main__":
    main()
