"""A Dockerfile's instructions, as far as ours go: one a line, continued by a backslash, JSON or shell form."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, kw_only=True)
class Instruction:
    """``COPY`` and its like, and what follows."""

    word: str
    text: str

    @property
    def listed(self) -> list[str]:
        """The arguments of the form in JSON."""
        found: list[str] = json.loads(self.text[self.text.index("[") :])
        return found


@dataclass(kw_only=True)
class Stage:
    """What one FROM begins."""

    name: str
    base: str
    instructions: list[Instruction] = field(default_factory=list)

    def all(self, word: str) -> list[Instruction]:
        """Return the instructions of one kind."""
        return [found for found in self.instructions if found.word == word]

    def last(self, word: str) -> Instruction:
        """Return the one that counts."""
        return self.all(word)[-1]

    @property
    def environment(self) -> dict[str, str]:
        """The variables that this stage itself sets."""
        pairs = [pair.partition("=") for found in self.all("ENV") for pair in found.text.split()]
        return {name: value for name, _, value in pairs}

    @property
    def sources(self) -> list[str]:
        """What is copied from the build's context."""
        copies = [found.text.split() for found in self.all("COPY") if not found.text.startswith("--from=")]
        return [source for words in copies for source in words[:-1]]


def stages(text: str) -> dict[str, Stage]:
    """Return the stages by name."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    found: dict[str, Stage] = {}
    for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        word, _, rest = line.strip().partition(" ")
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            found[name] = Stage(name=name, base=base)
        elif word and found:
            list(found.values())[-1].instructions.append(Instruction(word=word, text=rest.strip()))
    return found
