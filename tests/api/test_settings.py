"""Command line over environment over file over default."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from api.errors import SettingsError
from api.settings import ServeSettings, masked


def test_the_command_line_wins_over_the_environment_over_the_file_over_the_default(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "grebe.yaml"
    file.write_text("port: 1\npoll_interval_ms: 500\nstore: from-file\nsearch: {threads: 2, queue: 5}\n")
    monkeypatch.setenv("GREBE_PORT", "2")
    monkeypatch.setenv("GREBE_STORE", "from-environment")
    monkeypatch.setenv("GREBE_SEARCH__QUEUE", "6")
    monkeypatch.setenv("GREBE_DATA", "another command's")
    settings = ServeSettings.load(file, port=3, host=None)
    assert (settings.port, settings.store, settings.poll_interval_ms) == (3, "from-environment", 500)
    assert (settings.search.threads, settings.search.queue, settings.search.deadline_ms) == (2, 6, 10_000)
    assert settings.host == "127.0.0.1"


def test_the_environment_may_name_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "grebe.yaml").write_text("port: 17\n")
    monkeypatch.setenv("GREBE_CONFIG", str(tmp_path / "grebe.yaml"))
    assert ServeSettings.load().port == 17


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"quota": "many"}, "quota: 'many' is no quota: write a number and a time, as in 600/minute"),
        ({"quota": "0/minute"}, "quota: '0/minute' is no quota"),
        ({"host": ""}, "host: String should have at least 1 character"),
        (
            {"identity": {"issuers": [{"issuer": "i", "audience": "a", "jwks": "http://x/"}]}},
            "identity.issuers.0.jwks: '",
        ),
        ({"identity": {"issuers": [{"issuer": "i", "audiences": "a"}]}}, "identity.issuers.0.audience: Field required"),
        ({"identity": {"require": True}}, "identity.require: there is no such setting; did you mean 'required'?"),
        ({"prot": 1}, "prot: there is no such setting; did you mean 'port'?"),
        ({"port": 70_000}, "port: Input should be less than or equal to 65535"),
        ({"search": {"thread": 1}}, "search.thread: there is no such setting; did you mean 'threads'?"),
        ({"store": ""}, "store: String should have at least 1 character"),
    ],
)
def test_a_wrong_setting_is_named(given: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError) as error:
        ServeSettings.load(**given)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("given", "answered"),
    [
        ({}, {"127.0.0.1", "::1", "localhost"}),
        ({"host": "127.8.8.8"}, {"127.0.0.1", "127.8.8.8", "::1", "localhost"}),
        ({"allowed_hosts": ("Grebe.internal",)}, {"grebe.internal", "127.0.0.1"}),
        ({"host": "0.0.0.0"}, None),
        ({"host": "0.0.0.0", "allowed_hosts": ("grebe.internal",)}, {"grebe.internal", "0.0.0.0"}),
    ],
)
def test_names_in_the_host_header_are_limited_where_no_credentials_protect(
    given: dict[str, Any], answered: set[str] | None
) -> None:
    assert ServeSettings.load(**given).answered_hosts == answered


@pytest.mark.parametrize("content", ["[1]", "port: [", "\x00"])
def test_a_file_that_is_no_mapping_is_named(tmp_path: Path, content: str) -> None:
    file = tmp_path / "grebe.yaml"
    file.write_text(content)
    with pytest.raises(SettingsError, match=r"grebe\.yaml"):
        ServeSettings.load(file)


def test_credentials_in_an_address_are_not_shown() -> None:
    settings = ServeSettings.load(store="s3://key:secret@bucket/prefix")
    assert "key:secret" not in repr(settings)
    assert "key:secret" not in str(settings)
    assert masked("s3://bucket/pre@fix") == "s3://bucket/pre@fix"
    assert (
        masked("abfss://container@account.dfs.core.windows.net/a") == "abfss://container@account.dfs.core.windows.net/a"
    )


def test_a_list_of_the_environment_that_is_no_json_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GREBE_ALLOWED_HOSTS", "a,b")
    with pytest.raises(SettingsError, match=r"GREBE_ALLOWED_HOSTS is .*: in the environment it is JSON, such as"):
        ServeSettings.load()
    monkeypatch.setenv("GREBE_ALLOWED_HOSTS", '["a", "b"]')
    assert ServeSettings.load().allowed_hosts == ("a", "b")
