"""From the text of an option to what it means: values by name, lengths of time, stages of a search."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from retrieval.refine.stages import Collapse, Decay, Stages


class Dialect(StrEnum):
    """Whose SQL a filter is written in."""

    DATABRICKS = "databricks"
    SNOWFLAKE = "snowflake"
    DUCKDB = "duckdb"
    POSTGRES = "postgres"


ParamOption = Annotated[
    list[str] | None,
    typer.Option("--param", "-p", metavar="NAME=VALUE", help="A parameter's value: JSON, or text."),
]
RoleOption = Annotated[
    list[str] | None,
    typer.Option("--role", "-r", help="Ask as a caller with this role; may be repeated.  [default: see all]"),
]
ClaimOption = Annotated[
    list[str] | None,
    typer.Option("--claim", "-c", metavar="NAME=VALUE", help="A claim of that caller's: JSON, or text."),
]

_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


def parameters(given: list[str], option: str = "--param") -> dict[str, object]:
    """Return the values of ``name=value`` texts; a value that is JSON is what JSON says, any other is text.

    >>> parameters(["least=7", "package=pillow", "names=[\\"a\\"]", "id='7'"])
    {'least': 7, 'package': 'pillow', 'names': ['a'], 'id': "'7'"}
    """
    values: dict[str, object] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise typer.BadParameter(f"'{text}' is not NAME=VALUE", param_hint=option)
        if name in values:
            raise typer.BadParameter(
                f"'{name}' is given twice; a list is written as JSON: {name}=[1, 2]", param_hint=option
            )
        try:
            values[name] = json.loads(value)
        except ValueError:
            values[name] = value
    return values


def claims_of(given: list[str] | None, roles: list[str] | None) -> dict[str, object]:
    """Return the claims of ``--claim``; raises BadParameter for some without a role."""
    if given and not roles:
        raise typer.BadParameter("claims are of a caller, who has a role: give --role too", param_hint="--claim")
    return parameters(given or [], "--claim")


def key_parts(text: str) -> list[object]:
    """Return the values of the key that ``text`` names: of a composite one, which is a JSON list, or itself.

    >>> key_parts('["a", 1]'), key_parts("CVE-2024-3094"), key_parts("7")
    (['a', 1], ['CVE-2024-3094'], ['7'])
    """
    for key in keys_given(text):
        if isinstance(key, list):
            return key
    return [text]


def keys_given(text: str) -> tuple[object, ...]:
    """Return what key ``text`` may mean: itself, and what JSON says of it.

    >>> keys_given("7"), keys_given('["a", 1]'), keys_given("CVE-2024-3094")
    (('7', 7), ('["a", 1]', ['a', 1]), ('CVE-2024-3094',))
    """
    try:
        return text, json.loads(text)
    except ValueError:
        return (text,)


def lifetime(text: str | None, option: str) -> timedelta | None:
    """Return the time that ``text``, given for ``option``, names.

    >>> lifetime("90d", "--expires"), lifetime(None, "--expires")
    (datetime.timedelta(days=90), None)
    """
    if text is None:
        return None
    match = re.fullmatch(r"([1-9]\d{0,4})([mhd])", text)
    if match is None:
        raise typer.BadParameter("give a number and m, h or d: 30m, 12h, 90d", param_hint=option)
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


def stages(rerank: int | None, decay: str | None, collapse: str | None, diversify: float | None) -> Stages:
    """Return the stages after fusion that ``--rerank``, ``--decay``, ``--collapse`` and ``--diversify`` ask for."""
    from retrieval.refine.stages import NO_STAGES, Diversify, Rerank, Stages

    if rerank is None and decay is None and collapse is None and diversify is None:
        return NO_STAGES
    return Stages(
        rerank=None if rerank is None else Rerank(depth=rerank),
        decay=None if decay is None else _decay(decay),
        collapse=None if collapse is None else _collapse(collapse),
        diversify=None if diversify is None else Diversify(diversity=diversify),
    )


def _decay(text: str) -> Decay:
    """Return what ``COLUMN=SCALE`` and further ``NAME=VALUE``, parted by commas, ask for."""
    from retrieval.refine.stages import Decay

    (column, scale), *more = parameters(text.split(","), "--decay").items()
    known = ("kind", "offset", "midpoint", "weight", "origin", "depth")
    for name, _ in more:
        if name not in known:
            raise typer.BadParameter(f"'{name}' is none of {', '.join(known)}", param_hint="--decay")
    try:
        return Decay(column=column, scale=scale, **dict(more))  # type: ignore[arg-type]
    except TypeError as error:
        raise typer.BadParameter(f"'{text}' is not COLUMN=SCALE[,NAME=VALUE...]", param_hint="--decay") from error


def _collapse(text: str) -> Collapse:
    """Return what ``COLUMN``, or ``COLUMN=MOST``, asks for."""
    from retrieval.refine.stages import Collapse

    column, equals, most = text.partition("=")
    if not column or (equals and not most.isdecimal()):
        raise typer.BadParameter(f"'{text}' is not COLUMN[=MOST]", param_hint="--collapse")
    return Collapse(column=column, most=int(most)) if equals else Collapse(column=column)
