"""Where nodes answer, and what goes along."""

PREFIX = "/node/v1"
DEADLINE_HEADER = "X-Grebe-Deadline-Ms"
DEFAULT_DEADLINE_MS = 60_000
