"""The server's settings: command line, then environment (``GREBE_``), then file, then default.

``ServeSettings.load`` is the entry point's way in; nothing else in this package reads the environment.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)
from pydantic_settings import SettingsError as NotJson

from api.audit.settings import AuditSettings
from api.cluster.settings import ClusterSettings
from api.cors import CorsSettings
from api.errors import SettingsError
from api.hosts import is_loopback
from api.identity.issuers import IssuerSettings
from api.quotas import rate
from indexer.ann.device import DeviceKind
from indexer.suggestion import did_you_mean
from retrieval.cache import DEFAULT_MAX_BYTES

DEFAULT_PORT = 8080
DEFAULT_POLL_INTERVAL_MS = 250
"""A poll costs about 2 ms on a local disk: a quarter of a second adds little lag and less than 1 % of a core."""
DEFAULT_DEADLINE_MS = 10_000
MAX_DEADLINE_MS = 60_000
DEFAULT_TRUST_SECONDS = 10.0
"""What was read longer ago is no ground to let anybody in: a key may have been revoked since."""
LEAST_TRUST_SECONDS = 0.5
"""How often they are read."""
DEFAULT_MAX_BODY_BYTES = 1 << 20
"""One query vector of 16,384 numbers written out in full is about 350 kB."""
OTHER_VARIABLES = ("GREBE_CONFIG", "GREBE_DATA", "GREBE_DEBUG", "GREBE_EMBED_THREADS")
"""Those of the command and of models, which are no settings of the server."""


class SearchSettings(BaseModel):
    """How many searches run and wait at once, and for how long at most.

    ``threads`` searches run together and up to ``queue`` more wait; as many again may wait for a newer version. Pages
    can be asked for until ``cursor_seconds`` after the first.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    threads: int = Field(default_factory=lambda: os.cpu_count() or 1, ge=1, le=1024)
    queue: int = Field(default=128, ge=0, le=100_000)
    deadline_ms: int = Field(default=DEFAULT_DEADLINE_MS, ge=1, le=MAX_DEADLINE_MS)
    cursor_seconds: int = Field(default=600, ge=1, le=86_400)


class IdentitySettings(BaseModel):
    """Who may ask, beside the holders of API keys: with a token of one of the ``issuers``.

    With ``required`` nobody may without either, also on a loopback address and before the first key is made. What was
    read of the store's keys and roles is trusted for ``trust_seconds``: a longer time outlasts a longer
    absence of the store, and lets a key in for as long that was revoked meanwhile.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    required: bool = False
    issuers: tuple[IssuerSettings, ...] = ()
    trust_seconds: float = Field(default=DEFAULT_TRUST_SECONDS, gt=LEAST_TRUST_SECONDS, le=3600)

    @property
    def names_callers(self) -> bool:
        """Whether these settings alone make every caller say who it is."""
        return self.required or bool(self.issuers)


class ServingSettings(BaseModel):
    """Where vectors are searched: on this machine's processor, or on a GPU that holds them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    device: DeviceKind = "cpu"


def _quota(text: str) -> str:
    rate(text)
    return text


class ServeSettings(BaseSettings):
    """Settings of ``grebe serve``.

    ``store`` is the store's root (a folder or a bucket's address), ``cache`` a local folder for opened
    segments. ``allowed_hosts`` are the names in the Host header that are answered, beside ``host``. By default they
    are this machine's own where no other is served, because a page of another site may have its name point here
    (DNS rebinding); elsewhere any is answered, because every caller brings credentials, which no such page has.
    ``cors`` has the origins whose pages may call from a browser: all of them only where every caller says who it is.
    ``trusted_proxies`` are the addresses and networks from which ``X-Forwarded-For`` is believed. ``quota`` is what
    one caller may ask of this server, such as ``600/minute``. ``console`` says whether ``/`` is a page for people,
    ``agents`` whether ``/v1/mcp`` answers agents. After SIGTERM the server answers for ``drain_seconds`` more while
    ``/readyz`` says 503, then takes no connection and gives requests under way ``shutdown_seconds``.
    """

    model_config = SettingsConfigDict(
        env_prefix="GREBE_",
        env_nested_delimiter="__",
        frozen=True,
        extra="forbid",
        nested_model_default_partial_update=True,
    )

    store: str = Field(default=".grebe/store", min_length=1)
    cache: Path = Path(".grebe/cache")
    cache_max_bytes: int = Field(default=DEFAULT_MAX_BYTES, ge=1 << 20)
    host: str = Field(default="127.0.0.1", min_length=1)
    port: int = Field(default=DEFAULT_PORT, ge=0, le=65_535)
    allowed_hosts: tuple[str, ...] = ("localhost", "127.0.0.1", "::1")
    poll_interval_ms: int = Field(default=DEFAULT_POLL_INTERVAL_MS, ge=10, le=600_000)
    max_body_bytes: int = Field(default=DEFAULT_MAX_BODY_BYTES, ge=1024)
    console: bool = True
    agents: bool = True
    drain_seconds: float = Field(default=1.0, ge=0, le=600)
    shutdown_seconds: int = Field(default=30, ge=0, le=600)
    search: SearchSettings = SearchSettings()
    serving: ServingSettings = ServingSettings()
    identity: IdentitySettings = IdentitySettings()
    audit: AuditSettings = AuditSettings()
    cluster: ClusterSettings = ClusterSettings()
    cors: CorsSettings = CorsSettings()
    trusted_proxies: tuple[str, ...] = ()
    quota: Annotated[str, AfterValidator(_quota)] | None = None

    @field_validator("cors")
    @classmethod
    def _any_origin_needs_a_name(cls, cors: CorsSettings, info: ValidationInfo) -> CorsSettings:
        identity = info.data.get("identity")
        if cors.allows_any and identity is not None and not identity.names_callers:
            raise ValueError(
                "with the origin '*' any page that somebody here looks at could read what is served to whoever asks: "
                "set identity.required, or name the origins"
            )
        return cors

    @property
    def answered_hosts(self) -> frozenset[str] | None:
        """The names in the Host header that are answered, in lower case; None for any."""
        if "allowed_hosts" not in self.model_fields_set and not is_loopback(self.host):
            return None
        return frozenset(name.lower() for name in (*self.allowed_hosts, self.host))

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Command line, environment, file; ``_file`` is how :meth:`load` hands the file's values over."""
        given = dict(init_settings())
        file = given.pop("_file", {})
        return InitSettingsSource(settings_cls, given), env_settings, InitSettingsSource(settings_cls, file)

    @classmethod
    def load(cls, file: Path | None = None, **command_line: Any) -> ServeSettings:
        """Return the settings; an option of ``command_line`` that is None was not given.

        ``file`` is YAML; without it, the file that ``GREBE_CONFIG`` names, if any. Raises
        :class:`api.errors.SettingsError`.
        """
        named = file or (Path(os.environ["GREBE_CONFIG"]) if os.environ.get("GREBE_CONFIG") else None)
        given = {name: value for name, value in command_line.items() if value is not None}
        try:
            return cls(**(given | {"_file": _read(named) if named else {}}))
        except NotJson as error:
            raise SettingsError(f'{_variable(error)}: in the environment it is JSON, such as \'["a", "b"]\'') from error
        except ValidationError as error:
            raise SettingsError("\n".join(_sentence(item) for item in error.errors())) from error

    def __repr_args__(self) -> Any:
        for name, value in super().__repr_args__():
            yield name, masked(value) if name == "store" else value


def misspelt(environment: Mapping[str, str]) -> list[str]:
    """Return a sentence for each variable that is no setting and nearly is one.

    Others that begin with ``GREBE_`` may be somebody else's.

    >>> misspelt({"GREBE_SERCH__THREADS": "8", "GREBE_SEARCH__QUEUE": "1", "GREBE_BUILD_HOST": "x"})
    ['GREBE_SERCH__THREADS is no setting, and does nothing; did you mean GREBE_SEARCH__THREADS?']
    """
    known = {*_variables(ServeSettings, "GREBE_"), *OTHER_VARIABLES}
    strange = sorted(name for name in environment if name.upper().startswith("GREBE_") and name.upper() not in known)
    near = ((name, get_close_matches(name.upper(), known, n=1, cutoff=0.85)) for name in strange)
    return [f"{name} is no setting, and does nothing; did you mean {meant[0]}?" for name, meant in near if meant]


def _variables(model: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield f"{prefix}{name.upper()}"
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _variables(field.annotation, f"{prefix}{name.upper()}__")


def masked(url: str) -> str:
    """Return ``url`` without the credentials that someone may have written into it.

    >>> masked("s3://key:secret@bucket/prefix")
    's3://***@bucket/prefix'
    >>> masked("abfss://container@account.dfs.core.windows.net/prefix")
    'abfss://container@account.dfs.core.windows.net/prefix'
    """
    return re.sub(r"(?<!^abfss://)(?<=://)[^/@]*@", "***@", url)


def _variable(error: NotJson) -> str:
    """Return the name of the variable that could not be read, where it can be told; else what is known."""
    text = getattr(error.__cause__, "doc", None)
    named = [name for name, value in os.environ.items() if name.upper().startswith("GREBE_") and value == text]
    return f"{named[0]} is {text!r}" if named else str(error)


def _read(file: Path) -> Mapping[str, Any]:
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingsError(f"{file}: cannot be read as YAML: {error}") from error
    if not isinstance(values, Mapping):
        raise SettingsError(f"{file}: expected a mapping of settings")
    return values


def _sentence(item: Any) -> str:
    field = ".".join(str(part) for part in item["loc"])
    if item["type"] == "extra_forbidden":
        parts: dict[str, type[BaseModel]] = {
            "search": SearchSettings,
            "serving": ServingSettings,
            "identity": IdentitySettings,
            "audit": AuditSettings,
            "cluster": ClusterSettings,
            "cors": CorsSettings,
        }
        known = parts.get(field.partition(".")[0] if "." in field else "", ServeSettings).model_fields
        return f"{field}: there is no such setting{did_you_mean(str(item['loc'][-1]), known)}"
    return f"{field}: {item['msg'].removeprefix('Value error, ')}"
