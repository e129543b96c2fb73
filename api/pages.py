"""The console's files: read once from the package, each with the tag by which a browser asks whether it has changed."""

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


def read_pages() -> dict[str, Page]:
    """Return the files of ``api/console`` by name."""
    pages = {}
    for file in files("api").joinpath("console").iterdir():
        media_type = MEDIA_TYPES.get(file.name.rpartition(".")[2])
        if media_type:
            content = file.read_bytes()
            etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
            pages[file.name] = Page(content=content, media_type=media_type, etag=etag)
    return pages
