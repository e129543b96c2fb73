"""The emulator keeps Snowflake's rules; ``tests/snowflake/live`` asks a real account the same."""

from __future__ import annotations

from tests.snowflake.rules import BoundaryRules, CatalogRules, ChangeRules, TimeTravelRules, TypeRules


class TestChanges(ChangeRules):
    pass


class TestBoundaries(BoundaryRules):
    pass


class TestTimeTravel(TimeTravelRules):
    pass


class TestCatalog(CatalogRules):
    pass


class TestTypes(TypeRules):
    pass
