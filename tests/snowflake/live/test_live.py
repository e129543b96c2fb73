"""The rules that the emulator keeps, asked of a real account: proof that they are Snowflake's.

Runs where SNOWFLAKE_ACCOUNT, SNOWFLAKE_USER, SNOWFLAKE_WAREHOUSE, SNOWFLAKE_DATABASE and a credential are set.
"""

from __future__ import annotations

import pytest

from tests.snowflake.live.real_account import missing
from tests.snowflake.rules import BoundaryRules, CatalogRules, ChangeRules, TimeTravelRules, TypeRules

if missing():
    pytest.skip(
        f"no real Snowflake account to ask: set {', '.join(missing())} and a credential", allow_module_level=True
    )


class TestLiveChanges(ChangeRules):
    pass


class TestLiveBoundaries(BoundaryRules):
    pass


class TestLiveTimeTravel(TimeTravelRules):
    pass


class TestLiveCatalog(CatalogRules):
    pass


class TestLiveTypes(TypeRules):
    pass
