"""Tests against Snowflake's own protocol: an emulated account, or a real one where the environment names it."""

import os

# The connector asks the metadata services of three clouds where it runs, whenever it connects.
os.environ.setdefault("SNOWFLAKE_DISABLE_PLATFORM_DETECTION", "true")
