"""A log that was written once can be verified and read for good."""

from __future__ import annotations

from api.audit.reading import records
from api.audit.signing import read_public
from api.audit.verify import verify
from indexer.format.store import Store
from tests.api.audit.golden import JOURNAL, STORE


def test_a_log_of_version_1_verifies() -> None:
    store = Store.at(str(STORE))
    (key,) = [STORE / path for path in store.list() if path.endswith("key.pem")]

    (verdict,) = verify(store, JOURNAL, trusted=[read_public(key)])

    assert (verdict.problem, verdict.records, verdict.unattested, verdict.trusted) == (None, 10, 0, True)


def test_a_log_of_version_1_is_read() -> None:
    shown = records(Store.at(str(STORE)), JOURNAL, newest_first=False)

    phases = [record["unmapped"]["phase"] for record in shown]
    assert phases == ["genesis", "intent", "intent", "checkpoint", *["intent", "intent", "checkpoint"] * 2]
