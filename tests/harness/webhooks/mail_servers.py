"""Mail servers over a real socket: aiosmtpd in this event loop, which notes what it accepts."""

# ruff: noqa: ARG002, N802 - aiosmtpd calls its hooks by name, with all of these arguments

from __future__ import annotations

import asyncio
import contextlib
import email
import email.policy
import ssl
import warnings
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from email.message import EmailMessage
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from pydantic import SecretStr

from services.notifier.webhooks.endpoints.email_addresses import EmailRecipients
from services.notifier.webhooks.sending.smtp_sender import MailServer
from tests.harness.servers.embedded import HOST

USER, PASSWORD = "alerts", "mail-password"
FROM = "alerts@saccade.example"


@dataclass(frozen=True)
class ReceivedMail:
    """One e-mail as the mail server took it."""

    sender: str
    recipients: tuple[str, ...]
    content: bytes
    user: str | None
    encrypted: bool

    @property
    def message(self) -> EmailMessage:
        parsed = email.message_from_bytes(self.content, policy=email.policy.default)
        assert isinstance(parsed, EmailMessage)
        return parsed

    def part(self, kind: str) -> str:
        """Return the text of the part of a kind: plain or html."""
        part = self.message.get_body((kind,))
        assert part is not None
        return str(part.get_content()).replace("\r\n", "\n")

    @property
    def text(self) -> str:
        """What the message says, without the footer."""
        return self.part("plain").partition("\n\n-- \n")[0]


@dataclass
class ListeningMailServer:
    """Notes accepted e-mails. ``replies`` holds what it says to a recipient or to DATA instead of accepting it."""

    port: int = 0
    got: list[ReceivedMail] = field(default_factory=list)
    replies: dict[str, str] = field(default_factory=dict)
    connections: int = 0
    open: int = 0
    most_open: int = 0
    pause_s: float = 0.0

    def server(self, **changes: Any) -> MailServer:
        """Return the settings of a client of this server."""
        given: dict[str, Any] = {"tls": "none", "sender": FROM, "recipients": EmailRecipients()} | changes
        if "user" in given:
            given["password"] = SecretStr(given.get("password", PASSWORD))
        return MailServer(host=HOST, port=self.port, **given)

    async def handle_RCPT(self, server: SMTP, session: Session, envelope: Envelope, address: str, options: Any) -> str:
        if refusal := self.replies.get(address):
            return refusal
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        await asyncio.sleep(self.pause_s)
        self.open -= 1
        if refusal := self.replies.get("DATA"):
            return refusal
        login = session.auth_data.login.decode() if session.authenticated else None
        assert isinstance(envelope.content, bytes)
        self.got.append(
            ReceivedMail(
                str(envelope.mail_from), tuple(envelope.rcpt_tos), envelope.content, login, session.ssl is not None
            )
        )
        return f"250 2.0.0 Ok: queued as {len(self.got)}"

    async def wait(self, count: int, timeout_s: float = 15.0) -> list[ReceivedMail]:
        """Wait until so many have come."""
        async with asyncio.timeout(timeout_s):
            while len(self.got) < count:
                await asyncio.sleep(0.01)
        return self.got


def _authenticate(server: SMTP, session: Session, envelope: Envelope, mechanism: str, given: Any) -> AuthResult:
    assert isinstance(given, LoginPassword)
    right = (given.login, given.password) == (USER.encode(), PASSWORD.encode())
    return AuthResult(success=right, handled=False, auth_data=given)


@contextlib.asynccontextmanager
async def receiving_mail(
    *, starttls: ssl.SSLContext | None = None, implicit_tls: ssl.SSLContext | None = None, login: bool = False
) -> AsyncIterator[ListeningMailServer]:
    """Run a mail server in this event loop; with ``login`` it takes messages of its user only."""
    listener = ListeningMailServer()
    protocols: list[SMTP] = []

    def protocol() -> SMTP:
        listener.connections += 1
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns of a login without its own change to TLS
            made = SMTP(
                listener,
                hostname="mail.example",
                loop=asyncio.get_running_loop(),
                tls_context=starttls,
                require_starttls=starttls is not None,
                authenticator=_authenticate,
                auth_required=login,
                auth_require_tls=starttls is not None,
                timeout=60,
            )
        protocols.append(made)
        return made

    server = await asyncio.get_running_loop().create_server(protocol, HOST, 0, ssl=implicit_tls)
    listener.port = server.sockets[0].getsockname()[1]
    try:
        yield listener
    finally:
        server.close()
        for made in protocols:
            if made.transport is not None:
                made.transport.abort()
        await asyncio.sleep(0)
