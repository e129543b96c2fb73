"""How collections are spread over several servers."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, model_validator

from retrieval.share import MOST_PARTS, Share

LEAST_SECRET_CHARACTERS = 16
_SECRET = re.compile(f"[!-~]{{{LEAST_SECRET_CHARACTERS},}}")
DEFAULT_HEDGE_MS = 200
"""Well above what a node takes for a search, so that it is the exception; well below what a caller notices."""

Role = Literal["whole", "node", "router"]


def _share(text: str) -> str:
    Share.parse(text)
    return text


class ClusterSettings(BaseModel):
    """A server's place among several; by default there is one, which holds each collection whole.

    With a ``share``, such as ``2/8``, it is a node: it holds part 2, counted from 0, of 8, and answers routers alone.
    With ``nodes`` it is a router: it holds no part and asks them. Each entry is the address of one zone's nodes with
    ``{part}`` in the place of the part's number, as in ``http://node-{part}.zone-a:8080``; the nearest zone comes first
    and the others stand in for it. ``parts`` is how many parts there are. All know the same ``secret``. A node that
    takes longer than ``hedge_ms`` is not waited for alone: the next zone's is asked as well.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    share: Annotated[str, AfterValidator(_share)] | None = None
    nodes: tuple[str, ...] = ()
    parts: int = Field(default=1, ge=1, le=MOST_PARTS)
    secret: SecretStr | None = None
    hedge_ms: int = Field(default=DEFAULT_HEDGE_MS, ge=1, le=60_000)

    @model_validator(mode="after")
    def _is_one_of_them(self) -> Self:
        if self.share is not None and self.nodes:
            raise ValueError("a server has a share or asks nodes, not both: leave 'share' or 'nodes' out")
        if self.role == "whole":
            if self.parts > 1:
                raise ValueError("'parts' is for a router: give 'nodes' too")
            return self
        if self.secret is None or not _SECRET.fullmatch(self.credential):
            raise ValueError(
                f"nodes and routers need the same 'secret' of at least {LEAST_SECRET_CHARACTERS} letters, digits and "
                "signs of ASCII, without blanks (openssl rand -hex 32)"
            )
        for address in self.nodes:
            if not address.startswith(("http://", "https://")):
                raise ValueError(f"expected an address such as http://node-{{part}}:8080, got {address!r}")
            if self.parts > 1 and "{part}" not in address:
                raise ValueError(f"{address!r} says nowhere which of the {self.parts} parts it is: write {{part}}")
        return self

    @property
    def role(self) -> Role:
        """What this server is."""
        if self.share is not None:
            return "node"
        return "router" if self.nodes else "whole"

    @property
    def held(self) -> Share | None:
        """The share that a node holds."""
        return None if self.share is None else Share.parse(self.share)

    @property
    def credential(self) -> str:
        """The secret, without the line end that one from a file may have; raises AssertionError where there is none."""
        assert self.secret is not None
        return self.secret.get_secret_value().strip()

    def addresses(self, part: int) -> list[str]:
        """Return where the nodes of a part are, the nearest first.

        >>> ClusterSettings(nodes=("http://a{part}", "http://b{part}"), parts=2, secret="x" * 16).addresses(1)
        ['http://a1', 'http://b1']
        """
        return [address.replace("{part}", str(part)).rstrip("/") for address in self.nodes]
