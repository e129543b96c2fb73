"""The ``grebe`` command and the Spark entry points."""
