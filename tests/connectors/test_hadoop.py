from __future__ import annotations

import os

import pytest

from connectors.errors import SourceNotFound
from connectors.hadoop import HadoopCloud, hadoop_address, hadoop_cloud, settings_for

OAUTH = "org.apache.hadoop.fs.azurebfs.oauth2"
CLIENT = {"azure.account.auth.type": "OAuth", "azure.account.oauth2.client.id": "${env.AZURE_CLIENT_ID}"}


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment that says nothing of a cloud."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "AZURE_", "GOOGLE_"))]:
        monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("table", "cloud", "address"),
    [
        ("s3://b/t", "s3", "s3a://b/t"),
        ("S3A://b/t", "s3", "S3A://b/t"),
        ("abfss://c@a.dfs.core.windows.net/t", "azure", "abfss://c@a.dfs.core.windows.net/t"),
        ("az://c/lake/t", "azure", "abfss://c@account.dfs.core.windows.net/lake/t"),
        ("gs://b/t", "google", "gs://b/t"),
        ("/s3/t", None, "/s3/t"),
        ("main.birds.seen", None, "main.birds.seen"),
    ],
)
def test_a_cloud_is_told_by_the_address(
    table: str, cloud: HadoopCloud | None, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    assert (hadoop_cloud(table), hadoop_address(table)) == (cloud, address)


def test_an_address_without_its_account_says_what_names_it() -> None:
    with pytest.raises(SourceNotFound, match="az://c/t names no storage account: set AZURE_STORAGE_ACCOUNT_NAME, or"):
        hadoop_address("az://c/t")


@pytest.mark.parametrize(
    ("environment", "cloud", "settings"),
    [
        ({"AWS_REGION": "eu-central-1"}, "s3", {"s3a.endpoint.region": "eu-central-1"}),
        (
            {"AZURE_STORAGE_ACCOUNT_KEY": "SECRET", "AZURE_CLIENT_SECRET": "SECRET"},
            "azure",
            {"azure.account.auth.type": "SharedKey", "azure.account.key": "${env.AZURE_STORAGE_ACCOUNT_KEY}"},
        ),
        (
            {"AZURE_CLIENT_ID": "i", "AZURE_TENANT_ID": "t", "AZURE_CLIENT_SECRET": "SECRET"},
            "azure",
            CLIENT
            | {
                "azure.account.oauth.provider.type": f"{OAUTH}.ClientCredsTokenProvider",
                "azure.account.oauth2.client.secret": "${env.AZURE_CLIENT_SECRET}",
                "azure.account.oauth2.client.endpoint": (
                    "https://login.microsoftonline.com/${env.AZURE_TENANT_ID}/oauth2/token"
                ),
            },
        ),
        (
            {"AZURE_CLIENT_ID": "i", "AZURE_TENANT_ID": "t", "AZURE_FEDERATED_TOKEN_FILE": "/token"},
            "azure",
            CLIENT
            | {
                "azure.account.oauth.provider.type": f"{OAUTH}.WorkloadIdentityTokenProvider",
                "azure.account.oauth2.msi.tenant": "${env.AZURE_TENANT_ID}",
                "azure.account.oauth2.token.file": "${env.AZURE_FEDERATED_TOKEN_FILE}",
            },
        ),
        (
            {"AZURE_FEDERATED_TOKEN_FILE": "/token", "AZURE_AUTHORITY_HOST": "https://login.microsoftonline.us/"},
            "azure",
            CLIENT
            | {
                "azure.account.oauth.provider.type": f"{OAUTH}.WorkloadIdentityTokenProvider",
                "azure.account.oauth2.msi.tenant": "${env.AZURE_TENANT_ID}",
                "azure.account.oauth2.token.file": "${env.AZURE_FEDERATED_TOKEN_FILE}",
                "azure.account.oauth2.msi.authority": "https://login.microsoftonline.us",
            },
        ),
        (
            {"AZURE_STORAGE_SAS_TOKEN": "SECRET"},
            "azure",
            {"azure.account.auth.type": "SAS", "azure.sas.fixed.token": "${env.AZURE_STORAGE_SAS_TOKEN}"},
        ),
        (
            {"AZURE_CLIENT_ID": "i"},
            "azure",
            CLIENT | {"azure.account.oauth.provider.type": f"{OAUTH}.MsiTokenProvider"},
        ),
        ({}, "google", {"gs.auth.type": "APPLICATION_DEFAULT"}),
        (
            {"GOOGLE_SERVICE_ACCOUNT": "/key.json"},
            "google",
            {
                "gs.auth.type": "SERVICE_ACCOUNT_JSON_KEYFILE",
                "gs.auth.service.account.json.keyfile": "${env.GOOGLE_SERVICE_ACCOUNT}",
            },
        ),
    ],
)
def test_who_is_asking_is_left_in_the_environment(
    environment: dict[str, str], cloud: HadoopCloud, settings: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    if cloud == "s3":
        settings = {"s3.impl": "org.apache.hadoop.fs.s3a.S3AFileSystem", **settings}

    assert settings_for(cloud) == {f"spark.hadoop.fs.{name}": value for name, value in settings.items()}
