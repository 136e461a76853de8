"""Who asks: API keys with a tenant and scopes, or one local tenant that no web page can reach.

Without a keys file a service is embedded: it answers on loopback only, to one tenant, and checks Host and Origin so
that a page in the user's browser cannot talk to it, by DNS rebinding or otherwise. With one, every request needs
``Authorization: Bearer <id>.<secret>``.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import ipaddress
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from contracts.errors import ErrorCode, SaccadeError
from contracts.ids import TENANT_PATTERN

log = logging.getLogger(__name__)

ScopeName = Literal["read", "write"]

LOCAL_TENANT: Final = "local"


class ApiKey(BaseModel):
    """One line of the keys file; ``sha256`` is that of the secret, in hexadecimal."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    tenant: str = Field(pattern=TENANT_PATTERN)
    scopes: frozenset[ScopeName] = frozenset({"read", "write"})


_KEYS: Final = TypeAdapter(list[ApiKey])
#: Hashes of secrets that stand in this repository's examples: whoever has read them has the key.
_KNOWN: Final = frozenset({"63a27210ee4a5cd1e16d2d15e77987af258c3650c485e9e425aad2a69c6f1eba"})


class AuthSettings(BaseSettings):
    """Who may call. Lists are comma-separated."""

    model_config = SettingsConfigDict(env_prefix="SACCADE_", frozen=True)

    #: JSON list of ``{"id", "sha256", "tenant", "scopes"}``; none means embedded mode.
    api_keys_file: Path | None = None
    #: Host names served beside loopback's; with API keys and an empty list every Host is served.
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = ()
    #: Origins whose pages may call, ``https://app.example.com``; ``*`` for all, with API keys only.
    allowed_origins: Annotated[tuple[str, ...], NoDecode] = ()

    @field_validator("allowed_hosts", "allowed_origins", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        """Read ``a, b``."""
        if isinstance(value, str):
            return tuple(part.strip().rstrip("/").lower() for part in value.split(",") if part.strip())
        return value

    @model_validator(mode="after")
    def _no_known_key(self) -> Self:
        """Refuse at the start what would be refused when the keys are read."""
        if self.api_keys_file is not None and self.api_keys_file.is_file():
            with contextlib.suppress(ValidationError):  # said by whoever reads the keys
                self.known_key(_KEYS.validate_json(self.api_keys_file.read_bytes()))
        return self

    def known_key(self, keys: Iterable[ApiKey]) -> str | None:
        """Name a key of the examples.

        Raises:
            ValueError: it would open a server that answers to other names than this machine's.
        """
        known = next((key.id for key in keys if key.sha256 in _KNOWN), None)
        if known is not None and any(not is_loopback(host) for host in self.allowed_hosts):
            raise ValueError(
                f"the API key {known!r} is the one of the examples, which everyone knows, and SACCADE_ALLOWED_HOSTS "
                "names hosts beyond this machine: take it out of the keys file and make your own with `saccade key`"
            )
        return known

    @property
    def authenticated(self) -> bool:
        """Tell whether API keys are asked for."""
        return self.api_keys_file is not None


@dataclass(frozen=True)
class Principal:
    """Who asks: one tenant, and what the key may do."""

    tenant: str
    scopes: frozenset[ScopeName]
    key_id: str

    def require(self, scope: ScopeName) -> None:
        """Refuse what the key may not do.

        Raises:
            SaccadeError: FORBIDDEN.
        """
        if scope not in self.scopes:
            raise SaccadeError(ErrorCode.FORBIDDEN, f"This API key has no scope {scope!r}.")


class Authenticator:
    """Tells who asks. The keys file is read again when it changes, so that keys rotate without a restart."""

    def __init__(self, settings: AuthSettings) -> None:
        """Read the keys.

        Raises:
            OSError, pydantic.ValidationError: the keys file cannot be read or is not as it should be.
        """
        self._file = settings.api_keys_file
        self._settings = settings
        self._keys: dict[str, ApiKey] = {}
        self._stamp: tuple[int, int] | None = None
        if self._file:
            self._read(self._file)

    @property
    def authenticated(self) -> bool:
        """Tell whether API keys are asked for."""
        return self._file is not None

    def authenticate(self, headers: Mapping[str, str], scope: ScopeName | None = None) -> Principal:
        """Tell who asks, and that the key has a scope.

        Raises:
            SaccadeError: UNAUTHENTICATED; FORBIDDEN.
        """
        if self._file is None:
            return Principal(LOCAL_TENANT, frozenset({"read", "write"}), LOCAL_TENANT)
        self._read_again(self._file)
        kind, _, bearer = headers.get("authorization", "").partition(" ")
        key_id, _, secret = bearer.strip().partition(".")
        digest = hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()
        key = self._keys.get(key_id)
        # An unknown id costs as much as a wrong secret, so that ids cannot be found by timing.
        right = hmac.compare_digest(digest, key.sha256 if key else "0" * 64)
        if kind.lower() != "bearer" or not right or key is None:
            raise SaccadeError(ErrorCode.UNAUTHENTICATED)
        principal = Principal(key.tenant, key.scopes, key.id)
        if scope:
            principal.require(scope)
        return principal

    def principal(self, key_id: str) -> Principal | None:
        """Tell what a key may do that was shown earlier; None when it has been taken away since."""
        if self._file is None:
            return Principal(LOCAL_TENANT, frozenset({"read", "write"}), LOCAL_TENANT)
        self._read_again(self._file)
        key = self._keys.get(key_id)
        return Principal(key.tenant, key.scopes, key.id) if key else None

    def _read(self, file: Path) -> None:
        status = file.stat()
        keys = {key.id: key for key in _KEYS.validate_json(file.read_bytes())}
        if known := self._settings.known_key(keys.values()):
            log.warning("the API key %r is the one of the examples, which everyone knows: for this machine only", known)
        self._keys = keys
        self._stamp = (status.st_mtime_ns, status.st_size)

    def _read_again(self, file: Path) -> None:
        """Take over a changed file; a broken one changes nothing."""
        try:
            status = file.stat()
            if (status.st_mtime_ns, status.st_size) != self._stamp:
                self._read(file)
                log.info("API keys read again: %d keys", len(self._keys))
        except (OSError, ValueError) as error:
            self._stamp = None
            log.warning("the API keys file cannot be read, the keys of before stay: %s", type(error).__name__)


def is_loopback(host: str) -> bool:
    """Tell whether a host name or address is this machine's own."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
