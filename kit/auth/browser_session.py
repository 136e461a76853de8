"""Signed value of the cookie that stands for an API key in a browser. Pure.

It holds the key's id and an expiry, never the key, and is signed with tenant and hash of the key's secret besides: it
ends when the key is removed, gets another secret or another tenant. Nothing is stored.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

LIFETIME: Final = timedelta(hours=12)
_VALUE: Final = re.compile(r"(?P<key_id>[A-Za-z0-9_-]{1,64})\.(?P<expires>[0-9]{1,12})\.(?P<signature>[0-9a-f]{64})")
#: Keys of signatures of this purpose are derived from it, so that no ticket is a session.
_PURPOSE: Final = b"saccade browser session"


class KeyHolder(Protocol):
    """Caller with an API key."""

    @property
    def tenant(self) -> str:
        """The key's tenant."""

    @property
    def key_id(self) -> str:
        """The key's id."""

    @property
    def key_version(self) -> str:
        """Hash of the key's secret."""


class BrowserSessions:
    """Signs and verifies browsers' sessions with HMAC-SHA-256."""

    def __init__(self, key: str | None) -> None:
        """Sign with a key derived from ``key``; without one nobody can log in, as no other process could verify it."""
        self.is_configured = key is not None
        self._key = hmac.digest(key.encode() if key else secrets.token_bytes(32), _PURPOSE, "sha256")

    def issue(self, holder: KeyHolder, now: datetime) -> tuple[str, datetime]:
        """Return the cookie's value for the caller with an API key, and its expiry."""
        expires_at = (now + LIFETIME).replace(microsecond=0)
        expires = int(expires_at.timestamp())
        return f"{holder.key_id}.{expires}.{self._signature(holder, expires)}", expires_at

    def key_id_of(self, value: str) -> str | None:
        """Return the id of the key that a value claims to stand for; None for what is no value of this cookie."""
        found = _VALUE.fullmatch(value)
        return found["key_id"] if found else None

    def expiry(self, value: str, holder: KeyHolder) -> datetime | None:
        """Return when a value for this holder expires; None if it was not issued here for its key as it is now."""
        found = _VALUE.fullmatch(value)
        if found is None or found["key_id"] != holder.key_id:
            return None
        expires = int(found["expires"])
        if not hmac.compare_digest(found["signature"], self._signature(holder, expires)):
            return None
        return datetime.fromtimestamp(expires, tz=UTC)

    def _signature(self, holder: KeyHolder, expires: int) -> str:
        # None of the parts can contain the separator.
        parts = (holder.tenant, holder.key_id, str(expires), holder.key_version)
        return hmac.new(self._key, ".".join(parts).encode(), hashlib.sha256).hexdigest()
