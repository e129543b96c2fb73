"""A collection's spec as YAML: read whole, and every mistake told with its file, line and field."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import ValidationError

from indexer.errors import SpecError
from indexer.spec import CollectionSpec, Part
from indexer.suggestion import did_you_mean

_PLACE = re.compile(r"([a-z_]+(?:\.[a-z_0-9]+)*): ")

Place = tuple[int | str, ...]


def load_spec(path: Path) -> CollectionSpec:
    """Read a collection's YAML file.

    Raises :class:`indexer.errors.SpecError`, whose message has one line per mistake: ``file:line: field: what``.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise SpecError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise SpecError(f"{path}: is not UTF-8 at byte {error.start}; save it as UTF-8") from error
    return parse_spec(text, origin=str(path))


def parse_spec(text: str, *, origin: str = "spec") -> CollectionSpec:
    """Check the YAML ``text`` of a collection; see :func:`load_spec`."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise SpecError(f"{origin}:{mark.line + 1 if mark else 1}: not YAML: {problem}") from error
    except (ValueError, LookupError, RecursionError) as error:  # an impossible date; `!!int`; nesting without end
        raise SpecError(f"{origin}:1: cannot be read as YAML: {error}") from error
    if not isinstance(values, Mapping):
        raise SpecError(f"{origin}:1: expected a mapping with 'name', 'source', 'key', 'text' and 'vector'")
    try:
        wrong = [f"{origin}:{line}: {sentence}" for line, sentence in _mistakes(node)]
    except RecursionError as error:
        raise SpecError(f"{origin}:1: an alias contains itself; write the value out") from error
    if wrong:
        raise SpecError("\n".join(wrong))
    try:
        return CollectionSpec.model_validate(values)
    except ValidationError as error:
        sentences = sorted(_sentence(item, node, origin) for item in error.errors())
        raise SpecError("\n".join(sentence for _, sentence in sentences)) from error


def _sentence(item: Any, root: yaml.Node | None, origin: str) -> tuple[int, str]:
    """Return one mistake's line and its sentence."""
    place = tuple(part for part in item["loc"] if part != "[key]")
    complaint = _complaint(item, place)
    told = _PLACE.match(complaint) if item["type"] == "value_error" else None
    if told and told[1].partition(".")[0] in _known_keys(place):  # of what several parts have to do with, it says where
        place += tuple(int(part) if part.isdigit() else part for part in told[1].split("."))
        complaint = complaint[told.end() :]
    line = _line(root, place)
    return line, f"{origin}:{line}: {_field(place)}: {complaint}"


def _complaint(item: Any, place: Place) -> str:
    """Say what was expected, what came and what to do."""
    came = textwrap.shorten(repr(item["input"]), 60, placeholder=" …")
    match item["type"]:
        case "missing":
            return "is required"
        case "extra_forbidden":
            known = _known_keys(place[:-1])
            return f"unknown key{did_you_mean(str(place[-1]), known) or '; known are ' + ', '.join(known)}"
        case "value_error":
            return str(item["msg"]).removeprefix("Value error, ")
        case "too_short" | "string_too_short":
            return "must not be empty"
        case "tuple_type":
            return f"expected a list, as in [id, part], and {came} came"
        case "dict_type" | "model_type":
            return f"expected a mapping of names to values, and {came} came"
        case "string_type":
            return f"expected text, and {came} came; quote it if it is meant as text"
    return f"{str(item['msg']).replace('Input should', 'should')}, and {came} came"


def _known_keys(place: Place) -> list[str]:
    """Return the keys that the part of the spec at ``place`` knows."""
    part: type[Part] = CollectionSpec
    for name in place:
        if isinstance(name, str):
            annotation = part.model_fields[name].annotation
            kinds = [annotation, *get_args(annotation)]
            part = next(kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Part))
    return list(part.model_fields)


def _mistakes(node: yaml.Node | None, place: Place = ()) -> Iterator[tuple[int, str]]:
    """Yield the line and the sentence of what YAML itself would pass over.

    Of a key that is given twice it would keep the last, and a key without a value it takes for one left out: a row
    policy whose condition was commented out must open nothing.
    """
    if isinstance(node, yaml.SequenceNode):
        for at, item in enumerate(node.value):
            yield from _mistakes(item, (*place, at))
    if isinstance(node, yaml.MappingNode):
        seen: set[Place] = set()
        for key, value in node.value:
            here, line = (*place, str(key.value)), key.start_mark.line + 1
            if here in seen:
                yield line, f"{_field(here)}: is given twice; keep one"
            if isinstance(value, yaml.ScalarNode) and value.value == "" and value.style is None:
                yield line, f"{_field(here)}: is empty; give it a value or leave it out"
            seen.add(here)
            yield from _mistakes(value, here)


def _field(place: Place) -> str:
    return ".".join(str(part) for part in place) or "spec"


def _line(node: yaml.Node | None, place: Place) -> int:
    """Return the line (from 1) of ``place``, or of the nearest enclosing part that the text has."""
    line = node.start_mark.line + 1 if node else 1
    for part in place:
        if isinstance(node, yaml.MappingNode):
            found = next(((key, value) for key, value in node.value if key.value == str(part)), None)
            if found is None:
                return line
            line, node = found[0].start_mark.line + 1, found[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            return line
    return line
