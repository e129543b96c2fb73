"""``python -m jobs`` is ``grebe``."""

from jobs.cli import command

if __name__ == "__main__":
    command()
