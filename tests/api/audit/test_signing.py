"""The log's key is made once, kept to its owner, and never shown."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from api.audit.signing import SigningKey, is_signed, read_public
from api.errors import SettingsError
from tests.api.audit.scene import signing_key


def test_a_key_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"

    made, found = SigningKey.kept_at(path), SigningKey.kept_at(path)

    assert made.public == found.public
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_of_many_that_make_a_key_at_once_one_wins(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: SigningKey.kept_at(tmp_path / "key.pem").public, range(8)))

    assert len(set(made)) == 1


def test_a_signature_holds_for_one_message_and_one_key() -> None:
    signature = signing_key().sign(b"message")

    assert is_signed(signing_key().public, b"message", signature)
    assert not is_signed(signing_key().public, b"another", signature)
    assert not is_signed(signing_key(2).public, b"message", signature)
    assert not is_signed("no key", b"message", signature)


def test_the_public_part_is_read_back_from_its_pem(tmp_path: Path) -> None:
    path = tmp_path / "public.pem"
    path.write_bytes(signing_key().public_pem)

    assert read_public(path) == signing_key().public


def test_a_text_has_another_hash_in_another_domain_and_under_another_key() -> None:
    hashes = {
        signing_key().secret_hash("query", "nests"),
        signing_key().secret_hash("filter", "nests"),
        signing_key(2).secret_hash("query", "nests"),
    }

    assert len(hashes) == 3
    assert signing_key().secret_hash("query", "nests") in hashes


def test_a_key_does_not_show_itself() -> None:
    assert repr(signing_key()) == f"SigningKey({signing_key().fingerprint}, private part masked)"


@pytest.mark.parametrize("content", [b"", b"-----BEGIN PRIVATE KEY-----\n", signing_key().public_pem])
def test_a_file_that_is_no_private_key_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(content)

    with pytest.raises(SettingsError, match=r"key\.pem: cannot be read as a private key in PEM"):
        SigningKey.read(path)


def test_a_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    other = generate_private_key(SECP256R1())
    path.write_bytes(other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))

    with pytest.raises(SettingsError, match="expected an Ed25519 key; `openssl genpkey -algorithm ed25519` makes one"):
        SigningKey.read(path)


def test_a_private_key_is_no_public_one(tmp_path: Path) -> None:
    SigningKey.kept_at(tmp_path / "key.pem")

    with pytest.raises(SettingsError, match="is a private key"):
        read_public(tmp_path / "key.pem")
