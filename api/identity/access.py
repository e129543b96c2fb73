"""What one request may do: who asks, and the roles in force at that moment."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from api.identity.control import EVERY_COLLECTION, Action, Control
from api.problems import FORBIDDEN, Problem
from retrieval.policies import Caller


@dataclass(frozen=True, kw_only=True, slots=True)
class Principal:
    """Who asks: nobody in particular, the holder of an API key, or the subject of an issuer's token.

    ``id`` is unique among principals of all kinds, and is what logs name; ``caller`` holds roles and claims.
    """

    kind: Literal["anonymous", "key", "token"]
    id: str
    name: str
    caller: Caller = field(default_factory=Caller)


ANONYMOUS = Principal(kind="anonymous", id="anonymous", name="anonymous")


@dataclass(frozen=True, kw_only=True, slots=True)
class Access:
    """A principal, and the ``control`` whose roles count.

    Where no identity is configured (None) only this machine reaches the server, and grants are not asked for. Policies
    always are: whoever has no role sees no row of a collection that has some.
    """

    principal: Principal
    control: Control | None

    @property
    def caller(self) -> Caller:
        """Whom answers are for."""
        return self.principal.caller

    def may(self, action: Action, collection: str = EVERY_COLLECTION) -> bool:
        """Say whether ``action`` is allowed on ``collection``, or on all of them together."""
        return self.control is None or self.control.gives(self.caller.roles, action, collection)

    def knows(self, collection: str) -> bool:
        """Say whether the principal may do anything on ``collection``; it does not learn that others exist."""
        return self.control is None or self.control.covers(self.caller.roles, collection)

    def require(self, action: Action, collection: str = EVERY_COLLECTION) -> None:
        """Raise the 403 unless ``action`` is allowed on ``collection``, or on all of them together."""
        if not self.may(action, collection):
            where = "all collections together" if collection == EVERY_COLLECTION else "this collection"
            raise Problem(FORBIDDEN, f"no role of yours allows '{action}' on {where}", denied=True)


NOBODY_IN_PARTICULAR = Access(principal=ANONYMOUS, control=None)
"""What everybody may do where no identity is configured."""
