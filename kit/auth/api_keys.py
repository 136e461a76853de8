"""Authentication by API keys with a tenant and scopes, or of one local tenant in embedded mode.

Without a keys file a service listens on loopback only, has one tenant, and checks Host and Origin (host_guard.py), so
that no web page can reach it, by DNS rebinding or otherwise. With one, every request needs
``Authorization: Bearer <id>.<secret>``. ``is_embedded`` is the one place that says whether callers may do what only the
machine's own user may do.

The scope ``operate`` lets a key operate what its tenant has: dead letters, replays, the audit log. A key of the tenant
``_system`` has that scope alone, and operates every tenant; so does the user of this machine in embedded mode.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from contracts.audit import SYSTEM
from contracts.errors import ErrorCode, SaccadeError
from contracts.ids import TENANT_PATTERN
from contracts.partitions import Partition
from contracts.quotas import QuotaLimits, TenantQuotas
from contracts.tenant_retention import RetentionLimits, TenantRetention
from kit.auth.browser_session import BrowserSessions
from kit.auth.portal_link import PortalLinks
from kit.auth.quotas import Quotas

log = logging.getLogger(__name__)

ScopeName = Literal["read", "write", "operate"]

LOCAL_TENANT: Final = "local"


class ApiKey(BaseModel):
    """One entry of the keys file; ``sha256`` is the secret's hash in hexadecimal."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    tenant: str = Field(pattern=rf"{TENANT_PATTERN}|^{SYSTEM}$")
    scopes: frozenset[ScopeName] = frozenset({"read", "write"})

    @model_validator(mode="after")
    def _operator_of_all(self) -> Self:
        """Refuse a key that would own things as the tenant ``_system``, which no tenant is."""
        if self.tenant == SYSTEM and self.scopes != {"operate"}:
            raise ValueError(f"a key of the tenant {SYSTEM} has the scope operate alone")
        return self


_KEYS: Final = TypeAdapter(list[ApiKey | TenantQuotas | TenantRetention])
#: Hashes of the secrets in this repository's examples, which are public.
_EXAMPLE_HASHES: Final = frozenset({"63a27210ee4a5cd1e16d2d15e77987af258c3650c485e9e425aad2a69c6f1eba"})


class AuthSettings(BaseSettings):
    """API keys, Host names and origins that are allowed. Lists are comma-separated."""

    model_config = SettingsConfigDict(env_prefix="SACCADE_", frozen=True)

    #: JSON list of ``{"id", "sha256", "tenant", "scopes"}``, of ``{"tenant", "quotas"}`` (docs/quotas.md), and of
    #: ``{"tenant", "retention_hours"}`` (docs/retention.md); without it requests need no key.
    api_keys_file: Path | None = None
    #: Host names that are allowed in addition to loopback; with API keys and an empty list all are, and the server
    #: counts as one that others reach.
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = ()
    #: Origins whose pages may send requests, ``https://app.example.com``; ``*`` for all, with API keys only.
    allowed_origins: Annotated[tuple[str, ...], NoDecode] = ()
    #: The events are a window of another system: they are shown, and nothing is worked on, sent or changed.
    read_only: bool = False
    #: Tenant of who calls a server without keys.
    local_tenant: str = Field(default=LOCAL_TENANT, pattern=TENANT_PATTERN)
    #: Slots of tenants that this server serves, ``0-31/64``; by default all (docs/scale.md).
    partition: Annotated[Partition, NoDecode] = Partition()

    @field_validator("partition", mode="before")
    @classmethod
    def _parsed(cls, value: Any) -> Any:
        """Read ``0-31/64``."""
        return Partition.parse(value) if isinstance(value, str) else value

    @field_validator("allowed_hosts", "allowed_origins", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        """Split ``a, b``."""
        if isinstance(value, str):
            return tuple(part.rstrip("/").lower() for part in comma_separated(value))
        return value

    @model_validator(mode="after")
    def _readable_keys(self) -> Self:
        """Refuse at the start a file that would be refused when the keys are read, and a partition without keys."""
        if self.api_keys_file is None and not self.partition.is_whole:
            raise ValueError("SACCADE_PARTITION needs SACCADE_API_KEYS_FILE: without keys there is one tenant")
        if self.api_keys_file is not None:
            self.find_example_key(_read_keys(self.api_keys_file)[0])
        return self

    def find_example_key(self, keys: Iterable[ApiKey]) -> str | None:
        """Return the id of a key from the examples; None when there is none.

        Raises:
            ValueError: there is one, and the server may be reached from other machines.
        """
        key_id = next((key.id for key in keys if key.sha256 in _EXAMPLE_HASHES), None)
        if key_id is not None and not (self.allowed_hosts and all(map(is_loopback, self.allowed_hosts))):
            says = "names other hosts than this machine" if self.allowed_hosts else "is empty, so every host is served"
            raise ValueError(
                f"the API key {key_id!r} comes from the public examples, and SACCADE_ALLOWED_HOSTS {says}: remove the "
                "key from the keys file and create your own with `saccade key`"
            )
        return key_id

    def of_every_cell(self) -> Self:
        """Return these settings for a process that tells whose a request is, whichever cell serves it."""
        return self.model_copy(update={"partition": Partition()})

    @property
    def authenticated(self) -> bool:
        """Whether requests need an API key."""
        return self.api_keys_file is not None

    @property
    def embedded(self) -> bool:
        """Whether the server is in embedded mode."""
        return is_embedded(self.api_keys_file, self.allowed_hosts)


def is_embedded(api_keys_file: Path | None, allowed_hosts: Iterable[str]) -> bool:
    """Return whether a server is in embedded mode: only the user of this machine calls it.

    No API key is required, so it listens on loopback (``serve`` refuses other addresses), and no proxy or tunnel passes
    requests on to it, because no Host but loopback is allowed. Only then may a caller do what the machine's user can do
    anyway, such as sending webhooks to loopback.
    """
    return api_keys_file is None and all(is_loopback(host) for host in allowed_hosts)


def comma_separated(text: str) -> tuple[str, ...]:
    """Return the parts of ``a, b``, without empty ones."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _read_keys(file: Path) -> tuple[list[ApiKey], QuotaLimits, RetentionLimits]:
    """Return the keys of a keys file, and the quotas and the retention that it sets.

    Raises:
        ValueError: it cannot be read; the message names the variable and what to do.
    """
    create = "create it with `saccade key --file FILE`"
    if file.is_dir():
        # Container engines create a folder where the file of a mount is missing.
        why = f"is a folder; remove it and {create}"
    else:
        try:
            entries = _KEYS.validate_json(file.read_bytes())
            keys = [entry for entry in entries if isinstance(entry, ApiKey)]
            quotas = QuotaLimits.of([entry for entry in entries if isinstance(entry, TenantQuotas)])
            retention = RetentionLimits.of([entry for entry in entries if isinstance(entry, TenantRetention)])
            return keys, quotas, retention
        except FileNotFoundError:
            why = f"does not exist; {create}"
        except PermissionError:
            why = "may not be read by this process; it holds only hashes: chmod 644 it"
        except OSError as error:
            why = f"cannot be read ({error.strerror})"
        except ValidationError:
            why = f"is not a list of API keys; {create}"
    raise ValueError(f"SACCADE_API_KEYS_FILE: {file} {why}")


@dataclass(frozen=True)
class Principal:
    """Authenticated caller: one tenant, and the scopes of its key."""

    tenant: str
    scopes: frozenset[ScopeName]
    key_id: str
    #: The caller operates every tenant.
    across_tenants: bool = False
    read_only: bool = False
    #: Tenants that this server serves.
    partition: Partition = field(default=Partition(), repr=False, compare=False)
    #: Hash of the key's secret: what was begun with a key ends when it gets another secret.
    key_version: str = field(default="", repr=False)
    #: End of the browser's session by which the caller came, if it came by one.
    valid_until: datetime | None = field(default=None, compare=False)

    def require(self, *scopes: ScopeName) -> None:
        """Check that this server serves the key's tenant, and that the key has one of these scopes, if any are named.

        Raises:
            SaccadeError: WRONG_PARTITION; FORBIDDEN.
        """
        if not self.across_tenants:
            self.partition.require(self.tenant)
        if scopes and self.read_only and "read" not in scopes:
            raise SaccadeError(ErrorCode.READ_ONLY)
        if scopes and self.scopes.isdisjoint(scopes):
            message = f"This API key has no scope {' or '.join(map(repr, scopes))}."
            raise SaccadeError(ErrorCode.FORBIDDEN, message, required_scopes=list(scopes))

    @property
    def may_write(self) -> bool:
        """Whether ``require("write")`` lets it pass."""
        return "write" in self.scopes and not self.read_only


def _local(settings: AuthSettings) -> Principal:
    """Return the caller of a server without keys; in embedded mode it is the user of this machine, who operates it."""
    scopes: frozenset[ScopeName] = frozenset({"read", "write", "operate"} if settings.embedded else {"read", "write"})
    return Principal(
        settings.local_tenant, scopes, LOCAL_TENANT, across_tenants=settings.embedded, read_only=settings.read_only
    )


def _principal(key: ApiKey, settings: AuthSettings) -> Principal:
    across_tenants = key.tenant == SYSTEM
    return Principal(
        key.tenant,
        key.scopes,
        key.id,
        across_tenants=across_tenants,
        read_only=settings.read_only,
        partition=settings.partition,
        key_version=key.sha256,
    )


class Authenticator:
    """Authenticates requests. The keys file is read again when it changes, so that keys rotate without a restart."""

    def __init__(
        self,
        settings: AuthSettings,
        sessions: BrowserSessions | None = None,
        portal_links: PortalLinks | None = None,
    ) -> None:
        """Read the keys; ``sessions`` and ``portal_links`` verify what browsers send instead of a key.

        Raises:
            OSError, ValueError: the keys file cannot be read or is invalid.
        """
        self._file = settings.api_keys_file
        self._settings = settings
        self.sessions = sessions or BrowserSessions(None)
        self.portal_links = portal_links or PortalLinks(None)
        self._local = _local(settings)
        self._keys: dict[str, ApiKey] = {}
        #: Quotas of the tenants; the keys file has entries ``{"tenant", "quotas"}`` that change the defaults.
        #: Without keys there is one tenant, and nobody else to leave time for.
        self.quotas = Quotas(has_rates=self._file is not None)
        #: How long results and uploads are kept; entries ``{"tenant", "retention_hours"}`` of the keys file.
        self.retention = RetentionLimits()
        self._file_version: tuple[int, int] | None = None
        if self._file:
            self._read(self._file)

    @property
    def authenticated(self) -> bool:
        """Whether requests need an API key."""
        return self._file is not None

    @property
    def keys_version(self) -> tuple[int, int] | None:
        """Version of the keys: another one when the file was read again."""
        return self._file_version

    def authenticate(self, headers: Mapping[str, str], *scopes: ScopeName) -> Principal:
        """Return the caller of a request and check that its key has one of these scopes, if any are named.

        Raises:
            SaccadeError: UNAUTHENTICATED; WRONG_PARTITION; FORBIDDEN.
        """
        if self._file is None:
            self._local.require(*scopes)
            return self._local
        self.reload()
        kind, _, bearer = headers.get("authorization", "").partition(" ")
        key_id, _, secret = bearer.strip().partition(".")
        digest = hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()
        key = self._keys.get(key_id)
        # An unknown id takes as long as a wrong secret, so that ids cannot be found by timing.
        matches = hmac.compare_digest(digest, key.sha256 if key else "0" * 64)
        if kind.lower() != "bearer" or not matches or key is None:
            raise SaccadeError(ErrorCode.UNAUTHENTICATED)
        principal = _principal(key, self._settings)
        principal.require(*scopes)
        return principal

    def principal(self, key_id: str) -> Principal | None:
        """Return the principal of a key id; None when the key was removed."""
        if self._file is None:
            return self._local
        self.reload()
        key = self._keys.get(key_id)
        return _principal(key, self._settings) if key else None

    def in_browser(self, values: Sequence[str]) -> Principal | None:
        """Return the caller whose browser sent these values of the session's cookie; None if none is valid.

        None too if they stand for several keys: it cannot be told which of them its user meant.
        """
        found = {principal for value in values if (principal := self._of_session(value))}
        return found.pop() if len(found) == 1 else None

    def _of_session(self, value: str) -> Principal | None:
        key_id = self.sessions.key_id_of(value)
        principal = None if key_id is None or self._file is None else self.principal(key_id)
        expires_at = self.sessions.expiry(value, principal) if principal else None
        if principal is None or expires_at is None or expires_at <= datetime.now(UTC):
            return None
        return replace(principal, valid_until=expires_at)

    def by_portal_link(self, headers: Mapping[str, str]) -> Principal | None:
        """Return the caller whose request has the token of a link to the webhooks; None without a valid one.

        It may do what the link and its key allow, and only where ``portal_link.opens`` says so.
        """
        kind, _, token = headers.get("authorization", "").partition(" ")
        key_id = self.portal_links.key_id_of(token.strip()) if kind.lower() == "bearer" else None
        principal = None if key_id is None or self._file is None else self.principal(key_id)
        granted = self.portal_links.granted(token.strip(), principal) if principal else None
        if principal is None or granted is None or granted[1] <= datetime.now(UTC):
            return None
        wanted: frozenset[ScopeName] = frozenset({"read", "write"} if granted[0] == "write" else {"read"})
        return replace(principal, scopes=principal.scopes & wanted, valid_until=granted[1])

    def is_still_valid(self, principal: Principal) -> bool:
        """Return whether the key of a caller exists and permits what it did, and its browser's session lasts."""
        if principal.valid_until is not None and principal.valid_until <= datetime.now(UTC):
            return False
        return self.principal(principal.key_id) == principal

    def _read(self, file: Path) -> None:
        status = file.stat()
        entries, limits, retention = _read_keys(file)
        keys = {key.id: key for key in entries}
        if key_id := self._settings.find_example_key(keys.values()):
            log.warning("the API key %r comes from the public examples: use it on this machine only", key_id)
        self._keys, self.quotas.limits, self.retention = keys, limits, retention
        self._file_version = (status.st_mtime_ns, status.st_size)

    def reload(self) -> None:
        """Read the keys file again if it has changed; an invalid file changes nothing."""
        if self._file is None:
            return
        try:
            status = self._file.stat()
            if (status.st_mtime_ns, status.st_size) != self._file_version:
                self._read(self._file)
                log.info("API keys read again: %d keys", len(self._keys))
        except (OSError, ValueError) as error:
            self._file_version = None
            log.warning("the API keys file cannot be read, the previous keys stay valid: %s", type(error).__name__)


def hostname_of(authority: str) -> str | None:
    """Return the name in ``name:port`` in lower case; None when it is invalid."""
    try:
        return urlsplit(f"//{authority}").hostname
    except ValueError:
        return None


def is_loopback(host: str) -> bool:
    """Return whether a host name or address is this machine's loopback."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def limits_of_keys_file(settings: AuthSettings, what: str) -> tuple[Quotas, Callable[[], object]]:
    """Return the tenants' quotas and what brings them up to date; the defaults if the file cannot be read.

    ``what`` tells, for the log, of what they are the limits.
    """
    try:
        authenticator = Authenticator(settings)
    except (OSError, ValueError) as error:
        log.warning("the keys file cannot be read (%s): %s have the default quotas", type(error).__name__, what)
        return Quotas(), lambda: None
    return authenticator.quotas, authenticator.reload
