"""Our own errors found in Spark's text: its tasks raise them, and Spark hands on what they say in a stack trace."""

from __future__ import annotations

import re
from types import ModuleType
from typing import NamedTuple


class Told(NamedTuple):
    """An error that a text tells of; ``kind`` is None where its module has no exception of that ``name``."""

    kind: type[Exception] | None
    name: str
    message: str


def told_by(error: BaseException, *modules: ModuleType) -> Told | None:
    """Return the last error of ``modules`` (of errors) that the text of ``error`` tells of, or None."""
    by_name = {module.__name__: module for module in modules}
    one_of = "|".join(map(re.escape, by_name))
    found = re.findall(rf"\b({one_of})\.(\w+): (.*)", str(error))
    if not found:
        return None
    module, name, message = found[-1]
    kind = getattr(by_name[module], name, None)
    return Told(kind if isinstance(kind, type) and issubclass(kind, Exception) else None, name, message.strip())
