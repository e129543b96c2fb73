"""The log's one secret: an Ed25519 key. It signs checkpoints, and the key of the HMACs is derived from it.

Who verifies needs its public part only. Public keys and signatures are hexadecimal here.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from api.errors import SettingsError

HMAC_PURPOSE = b"grebe audit hmac v1"
FINGERPRINT_CHARACTERS = 8


class SigningKey:
    """Signs, and hashes what must not be recorded."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.public = private.public_key().public_bytes_raw().hex()
        derived = HKDF(algorithm=SHA256(), length=32, salt=None, info=HMAC_PURPOSE)
        self._hmac_key = derived.derive(private.private_bytes_raw())

    @classmethod
    def read(cls, path: Path) -> SigningKey:
        """Return the key in the PEM file ``path``; raises :class:`api.errors.SettingsError`."""
        try:
            private = load_pem_private_key(path.read_bytes(), password=None)
        except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise SettingsError(
                f"{path}: cannot be read as a private key in PEM, without a password: {error}"
            ) from error
        if not isinstance(private, Ed25519PrivateKey):
            raise SettingsError(f"{path}: expected an Ed25519 key; `openssl genpkey -algorithm ed25519` makes one")
        return cls(private)

    @classmethod
    def kept_at(cls, path: Path) -> SigningKey:
        """Return the key at ``path``, made first where there is none: readable by its owner only, durable.

        Of several processes that make one at once, one wins and all return its key.
        """
        if not path.exists():
            _write_new(path, _pem_of(Ed25519PrivateKey.generate()))
        return cls.read(path)

    @property
    def fingerprint(self) -> str:
        """What tells this key from others at a glance."""
        return hashlib.sha256(bytes.fromhex(self.public)).hexdigest()[:FINGERPRINT_CHARACTERS]

    @property
    def public_pem(self) -> bytes:
        """The public part, as it is published."""
        return self._private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def sign(self, message: bytes) -> str:
        """Return the signature of ``message``."""
        return self._private.sign(message).hex()

    def secret_hash(self, domain: str, text: str) -> str:
        """Return the HMAC of ``text``, in hexadecimal; equal texts of two domains have nothing in common."""
        return hmac.new(self._hmac_key, f"{domain}\0{text}".encode(errors="surrogatepass"), hashlib.sha256).hexdigest()

    def __repr__(self) -> str:
        return f"SigningKey({self.fingerprint}, private part masked)"


def is_signed(public: str, message: bytes, signature: str) -> bool:
    """Say whether ``signature`` was made over ``message`` with the private part of ``public``."""
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(public)).verify(bytes.fromhex(signature), message)
    except (InvalidSignature, ValueError):
        return False
    return True


def read_public(path: Path) -> str:
    """Return the public key in the PEM file ``path``; raises :class:`api.errors.SettingsError`."""
    try:
        data = path.read_bytes()
        if b"PRIVATE KEY" in data:
            raise SettingsError(
                f"{path}: is a private key, which stays with its server; the public one is in the store"
            )
        public = load_pem_public_key(data)
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise SettingsError(f"{path}: cannot be read as a public key in PEM: {error}") from error
    if not isinstance(public, Ed25519PublicKey):
        raise SettingsError(f"{path}: expected an Ed25519 key")
    return public.public_bytes_raw().hex()


def _pem_of(private: Ed25519PrivateKey) -> bytes:
    return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _write_new(path: Path, pem: bytes) -> None:
    """Write a file unless there is one already: whole and durable, or not at all."""
    part = path.with_name(f"{path.name}.{secrets.token_hex(8)}.part")
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(handle, "wb") as file:
            file.write(pem)
            file.flush()
            os.fsync(handle)
        os.link(part, path)  # unlike a rename, it fails where there is a file
    except FileExistsError:
        pass
    finally:
        part.unlink()
