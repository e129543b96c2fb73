"""Signing in, in every way that the connector has, and what its errors become."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from connectors.errors import HistoryExpired, SignInFailed, SourceError, SourceNotFound
from connectors.snowflake_session import Session, SignIn, scrubbed
from tests.connectors.signing_in import connections_file
from tests.snowflake.server import SnowflakeServer

CANARY = "canary-7f3a"


def clocks(sign_in: SignIn) -> int:
    with Session(sign_in, "SHOP.PUBLIC.T") as session:
        return session.clock()


@pytest.fixture
def from_environment(snowflake: SnowflakeServer, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name, value in snowflake.connection_parameters().items():
        if name not in {"password", "enable_server_session_keep_alive_auto_detection"}:
            monkeypatch.setenv(f"SNOWFLAKE_{name.upper()}", str(value))
    return monkeypatch


def test_a_named_connection_signs_in(snowflake: SnowflakeServer, sign_in: SignIn) -> None:
    assert abs(clocks(sign_in) - snowflake.now_us()) < 10_000_000

    (login,) = snowflake.logins()
    assert (login.how, login.parameters["QUERY_TAG"], login.parameters["TIMEZONE"]) == (
        "PASSWORD",
        "grebe tests",
        "UTC",
    )


def test_the_default_connection_is_what_the_environment_names(
    snowflake: SnowflakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connections_file(tmp_path, snowflake.connection_parameters(), name="prod")
    monkeypatch.setenv("SNOWFLAKE_HOME", str(tmp_path))
    monkeypatch.setenv("SNOWFLAKE_DEFAULT_CONNECTION_NAME", "prod")

    assert clocks(SignIn())


def test_the_environment_signs_in_with_a_password(
    snowflake: SnowflakeServer, from_environment: pytest.MonkeyPatch
) -> None:
    from_environment.setenv("SNOWFLAKE_PASSWORD", "any")

    assert clocks(SignIn())
    assert snowflake.logins()[-1].how == "PASSWORD"


def test_the_environment_signs_in_with_a_key_pair(
    snowflake: SnowflakeServer, from_environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (tmp_path / "key.p8").write_bytes(pem)
    (tmp_path / "key.p8").chmod(0o600)
    from_environment.setenv("SNOWFLAKE_AUTHENTICATOR", "SNOWFLAKE_JWT")
    from_environment.setenv("SNOWFLAKE_PRIVATE_KEY_FILE", str(tmp_path / "key.p8"))

    assert clocks(SignIn())
    assert snowflake.logins()[-1].how == "KEY_PAIR"


@pytest.mark.parametrize("how", ["OAUTH", "PROGRAMMATIC_ACCESS_TOKEN"])
def test_the_environment_signs_in_with_a_token(
    snowflake: SnowflakeServer, from_environment: pytest.MonkeyPatch, how: str
) -> None:
    from_environment.setenv("SNOWFLAKE_AUTHENTICATOR", how)
    from_environment.setenv("SNOWFLAKE_TOKEN", CANARY)

    assert clocks(SignIn())
    assert snowflake.logins()[-1].how == how


def test_a_refused_sign_in_says_where_credentials_come_from(snowflake: SnowflakeServer, sign_in: SignIn) -> None:
    snowflake.refuse_logins(1)

    with pytest.raises(SignInFailed, match=r"390100.*connections\.toml, by SNOWFLAKE_ACCOUNT") as caught:
        clocks(sign_in)

    assert isinstance(caught.value, SourceNotFound)
    assert caught.value.__cause__ is None


def test_a_connection_that_is_not_there_is_a_failed_sign_in(sign_in: SignIn) -> None:
    with pytest.raises(SourceError, match=r"(?i)no-such"):
        clocks(SignIn(connection="no-such", connections_file=sign_in.connections_file))


@pytest.mark.parametrize("how", ["tokens", "master", "sessions"])
def test_a_session_that_the_server_forgot_is_opened_again(
    snowflake: SnowflakeServer, sign_in: SignIn, how: str
) -> None:
    with Session(sign_in, "SHOP.PUBLIC.T") as session:
        session.clock()
        if how == "sessions":
            snowflake.end_sessions()
        else:
            snowflake.expire_tokens(master=how == "master")

        assert session.clock()


def test_errors_come_in_our_terms(snowflake: SnowflakeServer, sign_in: SignIn) -> None:
    with Session(sign_in, "SHOP.PUBLIC.T") as session:
        with pytest.raises(SourceNotFound, match=r"SHOP\.PUBLIC\.T does not exist, or the role may not read it"):
            session.rows("SELECT * FROM SHOP.PUBLIC.T")
        snowflake.fail_next(707, "02000", "Time travel data is not available for table T.")
        with pytest.raises(HistoryExpired, match="a sync compares the whole table"):
            session.rows("SELECT 1")
        snowflake.fail_next(606, "57P03", "No active warehouse selected in the current session.")
        with pytest.raises(SourceError, match="Name one as the source's 'warehouse'"):
            session.rows("SELECT 1")


def test_the_parts_that_go_into_a_plan_come_back_and_hold_no_secret() -> None:
    sign_in = SignIn(connection="prod", role="READER", warehouse="WH", tag="grebe books")

    assert SignIn.of(sign_in.options()) == sign_in
    assert sign_in.options() == {
        "signin.connection": "prod",
        "signin.role": "READER",
        "signin.warehouse": "WH",
        "signin.tag": "grebe books",
    }


def test_role_and_warehouse_win_over_the_environment() -> None:
    environment = {"SNOWFLAKE_ACCOUNT": "a", "SNOWFLAKE_ROLE": "ADMIN", "SNOWFLAKE_PORT": "8080"}

    parameters = SignIn(role="READER").parameters(environment)

    assert (parameters["account"], parameters["role"], parameters["port"]) == ("a", "READER", 8080)
    assert "connection_name" not in parameters
    assert SignIn(connection="prod").parameters(environment)["connection_name"] == "prod"


@pytest.mark.parametrize(
    "text",
    [
        f"GET https://b.s3.amazonaws.com/k/1?X-Amz-Signature={CANARY}&x=1 failed",
        f"x-amz-server-side-encryption-customer-key: {CANARY}",
        f"password={CANARY}",
        f"url (http://127.0.0.1:1/chunks/{CANARY})",
        f"cannot connect to proxy http://me:{CANARY}@proxy.example:8080",
        f'the server answered {{"token": "{CANARY}"}}',
    ],
)
def test_what_is_secret_leaves_an_errors_text(text: str) -> None:
    assert CANARY not in scrubbed(text)
