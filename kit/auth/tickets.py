"""Tickets for what a browser opens without an API key in a header: EventSource, WebSocket, pages of a job. Pure.

A ticket is valid for one resource of one tenant, or for all below one that ends with a slash, with the scopes of the
key that got it, for a day or less and any number of uses: an EventSource reconnects to the same URL after every
disconnect, and an invalid ticket would end it permanently.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import secrets
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Final

from contracts.errors import ErrorCode, SaccadeError
from kit.auth.api_keys import Authenticator, Principal
from kit.auth.browser_session import BrowserSessions, KeyHolder
from kit.auth.portal_link import PortalLinks

LIFETIME: Final = timedelta(hours=24)
#: Paths that tickets are issued for, for OpenAPI and validation.
RESOURCE_PATTERN: Final = (
    r"^/v1/(events|jobs/(?:job_|stg_)[0-9a-z_-]{36,80}/events"
    r"|(?:sessions/ses_|replays/rpl_)[0-9a-f-]{36}/(?:events|stream))$"
)
_MAX_CHARS: Final = 1000


@dataclass(frozen=True)
class Ticket:
    """Resource, tenant and expiry (Unix seconds) of a ticket."""

    tenant: str
    key_id: str
    resource: str
    expires: int


class Tickets:
    """Signs and verifies tickets with HMAC-SHA-256; nothing is stored."""

    def __init__(self, key: str | None) -> None:
        """Sign with ``key``; without one, with a random key of this process."""
        self._key = key.encode() if key else secrets.token_bytes(32)
        #: Browsers' sessions under the same key: gateway and notifier share it.
        self.sessions = BrowserSessions(key)
        self.portal_links = PortalLinks(key)

    def issue(self, holder: KeyHolder, resource: str, now: datetime) -> tuple[str, datetime]:
        """Return a new ticket and its expiry.

        Raises:
            SaccadeError: INVALID_PARAMETER, when the resource is not a stream.
        """
        if not re.fullmatch(RESOURCE_PATTERN, resource):
            message = f"resource: {resource[:100]!r} is not the path of a stream."
            hint = "Send /v1/events, /v1/jobs/{id}/events, or …/events or …/stream of a session or replay; no query."
            raise SaccadeError(ErrorCode.INVALID_PARAMETER, message, hint=hint)
        return self._issue(holder, resource, now + LIFETIME)

    def issue_for_pages(self, holder: KeyHolder, resource: str, expires_at: datetime) -> str:
        """Return a ticket for files of a job; it is part of their path."""
        return self._issue(holder, resource, expires_at)[0]

    def _issue(self, holder: KeyHolder, resource: str, expires: datetime) -> tuple[str, datetime]:
        ticket = Ticket(holder.tenant, holder.key_id, resource, int(expires.timestamp()))
        payload = _encode(json.dumps(asdict(ticket), separators=(",", ":")).encode())
        return f"{payload}.{self._sign(payload, holder)}", expires

    def is_valid(self, text: str, holder: KeyHolder, resource: str, now: datetime) -> bool:
        """Return whether a ticket was issued to this holder, for this resource, and has not expired."""
        ticket, (payload, _, signature) = _claimed(text), text[:_MAX_CHARS].partition(".")
        if ticket is None or (ticket.key_id, ticket.tenant) != (holder.key_id, holder.tenant):
            return False
        if not hmac.compare_digest(signature.encode("utf-8", "surrogateescape"), self._sign(payload, holder).encode()):
            return False
        return _covers(ticket.resource, resource) and ticket.expires > now.timestamp()

    def admit(self, authenticator: Authenticator, text: str, resource: str, now: datetime) -> Principal:
        """Verify a ticket and return its principal: the key that got it must still exist, with the same secret.

        Raises:
            SaccadeError: UNAUTHENTICATED.
        """
        ticket = _claimed(text)
        principal = authenticator.principal(ticket.key_id) if ticket else None
        if principal is None or not self.is_valid(text, principal, resource, now):
            raise SaccadeError(
                ErrorCode.UNAUTHENTICATED,
                "The ticket is not valid for this resource, it has expired, or the API key that got it has ended.",
                hint="Get a new one by POST /v1/tickets; for a page, open the artifact again.",
            )
        return principal

    def _sign(self, payload: str, holder: KeyHolder) -> str:
        # The hash of the key's secret is signed and not told: a ticket ends when its key gets another secret.
        signed = f"{payload}.{holder.key_version}".encode("utf-8", "surrogateescape")
        return _encode(hmac.new(self._key, signed, hashlib.sha256).digest())


def remaining(text: str, now: datetime) -> timedelta:
    """Return for how long a ticket is valid that was admitted; zero for what is no ticket."""
    ticket = _claimed(text)
    return timedelta(seconds=max(0.0, ticket.expires - now.timestamp()) if ticket else 0.0)


def claimed_tenant(text: str) -> str | None:
    """Return the tenant that a ticket claims to be of; nothing of it is verified. None for what is no ticket."""
    ticket = _claimed(text)
    return ticket.tenant if ticket else None


def _claimed(text: str) -> Ticket | None:
    """Return what a ticket says of itself, not verified; None for what is no ticket."""
    payload = text[:_MAX_CHARS].partition(".")[0].encode("utf-8", "surrogateescape")
    try:
        found = json.loads(base64.urlsafe_b64decode(payload + b"=" * (-len(payload) % 4)))
        ticket = Ticket(**found)
    except (ValueError, TypeError, RecursionError):
        return None
    kinds = [(ticket.tenant, str), (ticket.key_id, str), (ticket.resource, str), (ticket.expires, int)]
    return ticket if all(isinstance(value, kind) for value, kind in kinds) else None


def _covers(granted: str, asked: str) -> bool:
    return asked == granted or (granted.endswith("/") and asked.startswith(granted))


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
