"""Changing keys and roles: each function is one change of the ``_control`` table, and returns what it made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from pydantic import ValidationError

from api.errors import ControlError
from api.identity.control import (
    KEPT_AFTER,
    MAX_KEYS,
    Action,
    ApiKey,
    Claim,
    Control,
    ControlTable,
    Grant,
)
from api.identity.keys import new_key


def create_key(
    table: ControlTable,
    name: str,
    *,
    roles: Sequence[str],
    claims: Mapping[str, Claim],
    lifetime: timedelta | None = None,
) -> tuple[str, ApiKey]:
    """Make a key that works for ``lifetime`` (None: until it is revoked); return it, this once, and what is kept of it.

    Raises :class:`api.errors.ControlError`.
    """
    now = datetime.now(UTC)
    try:
        key, kept = new_key(
            name, tuple(dict.fromkeys(roles)), claims, created_at=now, expires_at=now + lifetime if lifetime else None
        )
    except ValidationError as error:
        raise _wrong(error) from error
    table.change(f"key {kept.id} ({name}) created", lambda control: {"keys": {**_listed(control, now), kept.id: kept}})
    return key, kept


def _listed(control: Control, now: datetime) -> Mapping[str, ApiKey]:
    """Return the keys that are still listed, with room for one more; raises ControlError if there is none."""
    kept = {id_: key for id_, key in control.keys.items() if key.over_at is None or now - key.over_at < KEPT_AFTER}
    if len(kept) >= MAX_KEYS:
        raise ControlError(
            f"there are {len(kept):,} keys, and no more may be; revoke some, or let callers bring tokens of an issuer"
        )
    return kept


def revoke_key(table: ControlTable, id_: str) -> ApiKey:
    """Let the key ``id_`` open nothing any more; raises :class:`api.errors.ControlError` if there is none."""

    def revoked(control: Control) -> Mapping[str, object]:
        kept = control.keys.get(id_)
        if kept is None:
            raise ControlError(f"there is no key with the id '{id_}'; `grebe keys list` shows those that there are")
        at = kept.revoked_at or datetime.now(UTC)
        return {"keys": {**control.keys, id_: kept.model_copy(update={"revoked_at": at})}}

    return table.change(f"key {id_} revoked", revoked).keys[id_]


def grant(table: ControlTable, role: str, collection: str, actions: Sequence[Action]) -> tuple[Grant, ...]:
    """Let holders of ``role`` do ``actions`` on ``collection`` too, and return the role's grants."""

    def granted(control: Control) -> Mapping[str, object]:
        grants = {each.collection: each.actions for each in control.roles.get(role, ())}
        grants[collection] = tuple(dict.fromkeys([*grants.get(collection, ()), *actions]))
        return {"roles": {**control.roles, role: _grants(grants)}}

    try:
        return table.change(f"role {role}: {', '.join(actions)} on {collection} granted", granted).roles[role]
    except ValidationError as error:
        raise _wrong(error) from error


def withdraw(
    table: ControlTable, role: str, collection: str | None = None, actions: Sequence[Action] = ()
) -> tuple[Grant, ...]:
    """Take from ``role`` the ``actions`` (none: all) on ``collection`` (None: all), and return what is left.

    Raises :class:`api.errors.ControlError` if there is nothing to take.
    """

    def withdrawn(control: Control) -> Mapping[str, object]:
        grants = {each.collection: each.actions for each in control.roles.get(role, ())}
        if not grants or (collection is not None and collection not in grants):
            what = f"role '{role}' has no grant" + (f" on '{collection}'" if grants else "")
            raise ControlError(f"{what}; `grebe roles list` shows those that there are")
        left = {name: allowed for name, allowed in grants.items() if collection not in (None, name)}
        if collection is not None and actions:
            left[collection] = tuple(action for action in grants[collection] if action not in actions)
        others = {name: kept for name, kept in control.roles.items() if name != role}
        return {"roles": {**others, role: _grants(left)} if any(left.values()) else others}

    what = " ".join([*actions, "on", collection]) if collection and actions else collection or "all"
    return table.change(f"role {role}: {what} withdrawn", withdrawn).roles.get(role, ())


def _grants(actions: Mapping[str, tuple[Action, ...]]) -> tuple[Grant, ...]:
    return tuple(Grant(collection=name, actions=allowed) for name, allowed in sorted(actions.items()) if allowed)


def _wrong(error: ValidationError) -> ControlError:
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"] if part != "[key]")
    if field.startswith("claims."):
        name = field.split(".")[1]
        return ControlError(f"claims.{name}: expected text, a finite number, true or false, or a list of one of these")
    return ControlError(f"{field}: {first['msg'].removeprefix('Value error, ')}")
