"""Signed token of a link to the page of webhooks alone, for the page of another system that shows it in a frame. Pure.

Like the value of a browser's session it stands for an API key and ends with it or its secret. It opens ``/v1/webhooks``
and says who it is for; nothing else, whatever the key may do.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

from kit.auth.browser_session import KeyHolder

PortalAccess = Literal["read", "write"]

SHORTEST: Final = timedelta(minutes=1)
LONGEST: Final = timedelta(hours=4)
_TOKEN: Final = re.compile(
    r"portal\.(?P<key_id>[A-Za-z0-9_-]{1,64})\.(?P<access>read|write)\.(?P<expires>[0-9]{1,12})\.(?P<signature>[0-9a-f]{64})"
)
#: Keys of signatures of this purpose are derived from it, so that no ticket and no session is a link.
_PURPOSE: Final = b"saccade portal link"
_WEBHOOKS: Final = "/v1/webhooks"
_WHO: Final = "/v1/browser-session"


class PortalLinks:
    """Signs and verifies tokens with HMAC-SHA-256; nothing is stored."""

    def __init__(self, key: str | None) -> None:
        """Sign with a key derived from ``key``; without one no other process can verify a token."""
        self.is_configured = key is not None
        self._key = hmac.digest(key.encode() if key else secrets.token_bytes(32), _PURPOSE, "sha256")

    def issue(self, holder: KeyHolder, access: PortalAccess, expires_at: datetime) -> str:
        """Return a token of the caller with an API key."""
        expires = int(expires_at.timestamp())
        return f"portal.{holder.key_id}.{access}.{expires}.{self._signature(holder, access, expires)}"

    def key_id_of(self, token: str) -> str | None:
        """Return the id of the key that a token claims to stand for; None for what is no token."""
        found = _TOKEN.fullmatch(token)
        return found["key_id"] if found else None

    def granted(self, token: str, holder: KeyHolder) -> tuple[PortalAccess, datetime] | None:
        """Return access and expiry of a token; None if it was not issued here for this holder's key as it is now."""
        found = _TOKEN.fullmatch(token)
        if found is None or found["key_id"] != holder.key_id:
            return None
        access: PortalAccess = "write" if found["access"] == "write" else "read"
        expires = int(found["expires"])
        if not hmac.compare_digest(found["signature"], self._signature(holder, access, expires)):
            return None
        return access, datetime.fromtimestamp(expires, tz=UTC)

    def _signature(self, holder: KeyHolder, access: str, expires: int) -> str:
        # None of the parts can contain the separator.
        parts = (holder.tenant, holder.key_id, access, str(expires), holder.key_version)
        return hmac.new(self._key, ".".join(parts).encode(), hashlib.sha256).hexdigest()


def opens(method: str, path: str) -> bool:
    """Return whether a token opens a decoded path: the webhooks, and who it is for."""
    return path == _WEBHOOKS or path.startswith(f"{_WEBHOOKS}/") or (method in ("GET", "HEAD") and path == _WHO)
