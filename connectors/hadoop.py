"""Tables at the three clouds: how their addresses are told and what Spark's Hadoop is set to for each.

A secret is never a setting, which anyone sees who lists processes: Hadoop takes it from the environment itself, whose
variables the settings name. They are those that :mod:`indexer.format.cloud` and delta-rs read.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Literal

from connectors.errors import SourceNotFound

HadoopCloud = Literal["s3", "azure", "google"]

_SCHEMES: dict[str, HadoopCloud] = {
    "s3": "s3",
    "s3a": "s3",
    "az": "azure",
    "abfs": "azure",
    "abfss": "azure",
    "gs": "google",
}
_ACCOUNT = "AZURE_STORAGE_ACCOUNT_NAME"


def hadoop_cloud(table: str) -> HadoopCloud | None:
    """Return the cloud of a table's address, whose client the session needs; None of a path or a metastore's name.

    >>> hadoop_cloud("abfss://container@account.dfs.core.windows.net/birds")
    'azure'
    """
    scheme, separator, _ = table.partition("://")
    return _SCHEMES.get(scheme.lower()) if separator else None


def hadoop_address(table: str) -> str:
    """Return an address as Hadoop writes it: ``s3a://`` of an ``s3://``, ``abfss://`` with the account of an ``az://``.

    Raises :class:`SourceNotFound` where the environment names no account.
    """
    scheme, separator, rest = table.partition("://")
    if not separator:
        return table
    if scheme.lower() == "s3":
        return f"s3a://{rest}"
    if scheme.lower() != "az":
        return table
    account = os.environ.get(_ACCOUNT)
    if not account:
        raise SourceNotFound(
            f"{table} names no storage account: set {_ACCOUNT}, or give "
            f"abfss://container@account.dfs.core.windows.net/path"
        )
    container, _, path = rest.partition("/")
    return f"abfss://{container}@{account}.dfs.core.windows.net/{path}"


def settings_for(cloud: HadoopCloud) -> dict[str, str]:
    """Return Spark's settings for tables at ``cloud``, as the environment has it."""
    settings = {"s3": _s3, "azure": _azure, "google": _google}[cloud](os.environ)
    return {f"spark.hadoop.fs.{name}": value for name, value in settings.items()}


def _s3(environment: Mapping[str, str]) -> dict[str, str]:
    settings = {"s3.impl": "org.apache.hadoop.fs.s3a.S3AFileSystem"}
    endpoint = environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL")
    region = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION")
    if endpoint:
        secure = endpoint.lower().startswith("https://")
        settings |= {
            "s3a.endpoint": endpoint,
            "s3a.path.style.access": "true",
            "s3a.connection.ssl.enabled": str(secure).lower(),
            "s3a.endpoint.region": region or "us-east-1",
        }
    elif region:
        settings["s3a.endpoint.region"] = region
    return settings


def _azure(environment: Mapping[str, str]) -> dict[str, str]:
    """Return who is asking, in the order in which obstore looks: a key, a principal's secret, a pod's identity, a SAS.

    Without any of them it is the machine's own identity.
    """
    oauth = {"azure.account.auth.type": "OAuth"}
    authority = environment.get("AZURE_AUTHORITY_HOST", "").rstrip("/")
    client = {"azure.account.oauth2.client.id": "${env.AZURE_CLIENT_ID}"}
    provider = "azure.account.oauth.provider.type"
    key = next((name for name in _KEYS if environment.get(name)), None)
    if key:
        return {"azure.account.auth.type": "SharedKey", "azure.account.key": f"${{env.{key}}}"}
    if environment.get("AZURE_CLIENT_SECRET"):
        host = authority or "https://login.microsoftonline.com"
        return {
            **oauth,
            **client,
            provider: f"{_OAUTH}.ClientCredsTokenProvider",
            "azure.account.oauth2.client.secret": "${env.AZURE_CLIENT_SECRET}",
            "azure.account.oauth2.client.endpoint": f"{host}/${{env.AZURE_TENANT_ID}}/oauth2/token",
        }
    if environment.get("AZURE_FEDERATED_TOKEN_FILE"):
        return {
            **oauth,
            **client,
            provider: f"{_OAUTH}.WorkloadIdentityTokenProvider",
            "azure.account.oauth2.msi.tenant": "${env.AZURE_TENANT_ID}",
            "azure.account.oauth2.token.file": "${env.AZURE_FEDERATED_TOKEN_FILE}",
            **({"azure.account.oauth2.msi.authority": authority} if authority else {}),
        }
    token = next((name for name in _TOKENS if environment.get(name)), None)
    if token:
        return {"azure.account.auth.type": "SAS", "azure.sas.fixed.token": f"${{env.{token}}}"}
    named = client if environment.get("AZURE_CLIENT_ID") else {}
    return {**oauth, **named, provider: f"{_OAUTH}.MsiTokenProvider"}


def _google(environment: Mapping[str, str]) -> dict[str, str]:
    key = next((name for name in _KEY_FILES if environment.get(name)), None)
    if key:
        return {
            "gs.auth.type": "SERVICE_ACCOUNT_JSON_KEYFILE",
            "gs.auth.service.account.json.keyfile": f"${{env.{key}}}",
        }
    return {"gs.auth.type": "APPLICATION_DEFAULT"}


_OAUTH = "org.apache.hadoop.fs.azurebfs.oauth2"
_KEYS = ("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_ACCESS_KEY")
_TOKENS = ("AZURE_STORAGE_SAS_TOKEN", "AZURE_STORAGE_SAS_KEY")
_KEY_FILES = ("GOOGLE_SERVICE_ACCOUNT", "GOOGLE_SERVICE_ACCOUNT_PATH")
