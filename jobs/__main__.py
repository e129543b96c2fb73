"""``python -m jobs`` is ``grebe``."""

from jobs.cli import main

if __name__ == "__main__":
    main()
