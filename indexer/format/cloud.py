"""The clouds whose buckets a store may lie in, S3 (and what speaks like it), Azure and Google; what tells them apart.

Each is reached, by obstore and by delta-rs, with the environment's variables. Those are named here and none of their
values is kept or shown.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from obstore.exceptions import PermissionDeniedError, UnauthenticatedError
from obstore.store import AzureStore, GCSStore, S3Store

ADDRESSES = "s3://bucket/prefix, abfss://container@account.dfs.core.windows.net/prefix, az://container/prefix or gs://…"
"""What a bucket's address looks like, for people."""

_METADATA_SERVICES = ("169.254.169.254", "metadata.google.internal")
"""Where obstore asks for a machine's role when the environment has no credentials."""

_NO_BUCKET = re.compile("<Code>(NoSuchBucket|ContainerNotFound)</Code>")
_DENIED = re.compile(r"status code: (401|403) ")


@dataclass(frozen=True, kw_only=True)
class Cloud:
    """What tells one vendor's buckets from another's.

    ``host`` is what an address has between ``//`` and the prefix. Of the environment's ``variables``, those of
    ``credentials`` say who is asking, one of ``endpoints`` may name a server in place of the vendor's, and
    ``allow_http`` says whether that is asked unencrypted. ``rights`` is where the vendor keeps who may do what.
    """

    opened: type[S3Store | AzureStore | GCSStore]
    name: str
    host: str
    variables: str
    credentials: str
    endpoints: tuple[str, ...]
    allow_http: str
    rights: str

    def allows_http(self) -> bool:
        """Say whether requests may go unencrypted: its variable decides, or else the endpoint's own address."""
        allowed = os.environ.get(self.allow_http)
        if allowed is not None:
            return allowed.lower() in ("1", "true", "yes")
        return next(filter(None, map(os.environ.get, self.endpoints)), "").startswith("http://")


AMAZON = Cloud(
    opened=S3Store,
    name="AWS",
    host=r"[^/]+",
    variables="AWS_*",
    credentials="AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    endpoints=("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
    allow_http="AWS_ALLOW_HTTP",
    rights="the bucket's policy",
)
AZURE = Cloud(
    opened=AzureStore,
    name="Azure",
    host=r"[^@:/]+",
    variables="AZURE_*",
    credentials=(
        "AZURE_STORAGE_ACCOUNT_NAME, unless the address names it, and AZURE_STORAGE_ACCOUNT_KEY, "
        "AZURE_STORAGE_SAS_TOKEN, or AZURE_CLIENT_ID, AZURE_TENANT_ID and AZURE_CLIENT_SECRET"
    ),
    endpoints=("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"),
    allow_http="AZURE_ALLOW_HTTP",
    rights="the role on the container (Storage Blob Data Contributor, to write)",
)
GOOGLE = Cloud(
    opened=GCSStore,
    name="Google",
    host=r"[^@:/]+",
    variables="GOOGLE_*",
    credentials="GOOGLE_APPLICATION_CREDENTIALS or GOOGLE_SERVICE_ACCOUNT, the path of a key's file",
    endpoints=("GOOGLE_BASE_URL",),
    allow_http="GOOGLE_ALLOW_HTTP",
    rights="the role on the bucket (Storage Object User, to write)",
)
_CLOUDS = {"s3": AMAZON, "az": AZURE, "abfss": replace(AZURE, host=r"[^@:/]+@[^@:/]+"), "gs": GOOGLE}


def cloud_of(url: str) -> Cloud | None:
    """Return whose bucket ``url`` is in; None if it is no bucket's address."""
    scheme, separator, _ = url.partition("://")
    return _CLOUDS.get(scheme.lower()) if separator else None


def address(url: str) -> str | None:
    """Return a bucket's address as it is written everywhere, without a last ``/``; None if ``url`` is none.

    >>> address("gs://bucket/a/b/")
    'gs://bucket/a/b'
    >>> address("abfss://container/a")
    """
    cloud, parts = cloud_of(url), urlsplit(url)
    if cloud is None or not re.fullmatch(cloud.host, parts.netloc):
        return None
    return f"{parts.scheme}://{parts.netloc}/{parts.path.strip('/')}".rstrip("/")


def trouble(url: str, error: Exception) -> str | None:
    """Return what ``error`` says is wrong with the bucket at ``url``, and what to do; None if it says neither."""
    cloud = cloud_of(url)
    if cloud is None:
        return None
    said, first = str(error), first_line(error)
    if any(service in said for service in _METADATA_SERVICES):
        return f"no {cloud.name} credentials were found. Set {cloud.credentials}, or run where the machine has a role"
    if _NO_BUCKET.search(said):
        return "there is no such bucket; make it, or correct the address"
    if isinstance(error, PermissionDeniedError | UnauthenticatedError) or _DENIED.search(first):
        return f"access was denied. Check the {cloud.variables} credentials and {cloud.rights}: {first}"
    return None


def first_line(error: Exception) -> str:
    """Return the first line of what a vendor's error says."""
    return str(error).strip().split("\n", 1)[0][:300]
