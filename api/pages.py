"""The console's files: read once from the package, each with the tag by which a browser asks whether it has changed.

The first page names the others with their version on the way: during an update, when servers of two versions answer
under one address, a browser never runs modules of both.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files

MEDIA_TYPES: Mapping[str, str] = {
    "html": "text/html",
    "css": "text/css",
    "mjs": "text/javascript",
    "svg": "image/svg+xml",
}
FIRST = "index.html"
PLACE = b'"console/'


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """A file as it is sent; ``etag`` is a hash of what is in it."""

    content: bytes
    media_type: str
    etag: str

    def is_known(self, if_none_match: str) -> bool:
        """Say whether a caller with this ``If-None-Match`` has the page already.

        >>> page = Page(content=b"", media_type="text/css", etag='"a"')
        >>> [page.is_known(tags) for tags in ('"a"', '"b", W/"a"', "*", '"b"', "")]
        [True, True, True, False, False]
        """
        tags = {tag.strip().removeprefix("W/") for tag in if_none_match.split(",")}
        return bool(tags & {self.etag, "*"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Pages:
    """The page that people open, and the files by name that it names under ``console/VERSION/``.

    ``version`` is a hash of what is in all of them.
    """

    version: str
    first: Page
    others: Mapping[str, Page]


def read_pages() -> Pages:
    """Return the files of ``api/console``."""
    found = {file.name: file.read_bytes() for file in files("api").joinpath("console").iterdir() if _type(file.name)}
    version = _hash(b"".join(name.encode() + b"\0" + _hash(found[name]).encode() for name in sorted(found)))[:16]
    first = found.pop(FIRST).replace(PLACE, PLACE + version.encode() + b"/")
    others = {name: _page(name, content) for name, content in found.items()}
    return Pages(version=version, first=_page(FIRST, first), others=others)


def _page(name: str, content: bytes) -> Page:
    return Page(content=content, media_type=MEDIA_TYPES[_type(name)], etag=f'"{_hash(content)[:32]}"')


def _type(name: str) -> str:
    suffix = name.rpartition(".")[2]
    return suffix if suffix in MEDIA_TYPES else ""


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
