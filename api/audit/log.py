"""The audit log as the server sees it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from api.audit.journal import Journal
from api.audit.record import Intent, Outcome, intent_record, outcome_record
from api.audit.settings import AuditSettings
from api.audit.shipping import BackgroundShipper, Shipper
from api.audit.signing import SigningKey
from api.audit.writer import Limits, Writer
from api.errors import SettingsError
from indexer.format.store import Store

KEY_FILE = "signing-key.pem"


class AuditLog:
    """Records what operations do, in ``settings.folder`` and from there in ``store``.

    Making one makes the folder and its signing key, if they are not there; raises
    :class:`api.errors.SettingsError`. ``report`` is told, in a sentence and on any thread, when the log cannot be
    written or shipped, and when it can again.
    """

    def __init__(self, settings: AuditSettings, store: Store, report: Callable[[str], None]) -> None:
        folder = _made(settings.folder)
        if store.directory and folder.resolve().is_relative_to(store.directory.resolve()):
            raise SettingsError(f"audit.folder: {folder} is inside the store; give a folder of this server's own")
        self._tell = report
        self._key = SigningKey.read(settings.signing_key) if settings.signing_key else _own_key(folder)
        shipper = Shipper(store, self._key)
        self._background = BackgroundShipper(shipper, self._report) if settings.durability == "local" else None
        limits = Limits(
            checkpoint_seconds=settings.checkpoint_seconds,
            # A file that is complete after each batch is shipped before those who wait for the batch are answered.
            rotate_bytes=settings.rotate_bytes if self._background else 1,
            rotate_seconds=settings.rotate_seconds,
        )
        completed = self._background.add if self._background else shipper.ship
        self._journal = Journal(Writer(folder, self._key, limits, completed=completed), self._report)

    def start(self) -> None:
        """Begin to write.

        Raises :class:`api.errors.AuditBusy` while another process writes to the folder,
        :class:`api.errors.AuditUnreadable` and OSError.
        """
        self._journal.start()
        if self._background:
            self._background.start()

    def stop(self) -> None:
        """Write and sign what waits, close the log and ship it; blocks for as long as the disk takes.

        A store that is away is left after :data:`api.audit.shipping.STOP_SECONDS`.
        """
        self._journal.stop()
        if self._background:
            self._background.stop()

    async def intent(self, intent: Intent) -> None:
        """Return once ``intent`` is durable; if it raises :class:`api.errors.AuditUnavailable`, do not run it."""
        await self._journal.append(intent_record(intent, self.secret_hash))

    async def outcome(self, outcome: Outcome) -> None:
        """Return once ``outcome`` is durable; if it raises :class:`api.errors.AuditUnavailable`, do not answer it."""
        await self._journal.append(outcome_record(outcome, self.secret_hash))

    @property
    def unshipped(self) -> int:
        """How many complete files wait to be shipped."""
        return self._background.pending if self._background else 0

    @property
    def healthy(self) -> bool:
        """Whether records can be written, as far as is known."""
        return self._journal.healthy

    def secret_hash(self, domain: str, text: str) -> str:
        """Return the HMAC of ``text``, in hexadecimal; ``domain`` says what it is, such as ``query``."""
        return self._key.secret_hash(domain, text)

    def _report(self, sentence: str) -> None:
        with suppress(Exception):  # who cannot be told must not end a thread that others wait for
            self._tell(sentence)


def _made(folder: Path | None) -> Path:
    if folder is None:
        raise SettingsError("audit.folder: give a folder on a local disk for the audit log")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"audit.folder: {folder} cannot be made: {error.strerror}") from error
    return folder


def _own_key(folder: Path) -> SigningKey:
    try:
        return SigningKey.kept_at(folder / KEY_FILE)
    except OSError as error:
        raise SettingsError(f"audit.folder: no signing key can be kept in {folder}: {error.strerror}") from error
