"""Sender of e-mails: one attempt is one message to the operator's mail server, within limits of time and connections.

The mail server is the operator's choice, like the bus and the bucket: it is trusted, and its address is not checked as
those of webhooks are. What users choose are recipients, to which nothing here connects.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal

from aiosmtplib import SMTP, SMTPException, SMTPResponseException
from pydantic import SecretStr

from contracts.events.delivery import AttemptError
from services.notifier.webhooks.endpoints.email_addresses import EmailRecipients, addresses_of
from services.notifier.webhooks.messages.email_message import EmailContent, email_bytes
from services.notifier.webhooks.sending.sender import EXCERPT_BYTES, SendResult

#: Maximum time of an attempt, from waiting for a free connection to the reply to the message.
ATTEMPT_S: Final = 30.0
#: Time in which the mail server confirms the end of a connection whose message it has accepted.
_QUIT_S: Final = 2.0
#: Maximum concurrent connections; mail servers refuse more than a few of one client. Lanes use fewer of them.
_CONNECTIONS: Final = 8

#: Part of the conversation that fails.
_Step = Literal["connect", "tls", "login", "sender", "message"]


@dataclass(frozen=True)
class MailServer:
    """The operator's mail server; ``tls`` is implicit from the first byte, or after ``starttls``."""

    host: str
    port: int
    tls: Literal["implicit", "starttls", "none"]
    #: Address that the e-mails come from.
    sender: str
    recipients: EmailRecipients
    user: str | None = None
    password: SecretStr | None = None


@dataclass(frozen=True)
class EmailRequest:
    """One e-mail to the addresses of a ``mailto:`` URL."""

    url: str
    content: EmailContent


class _RefusedRecipientError(Exception):
    """A recipient is refused, so the message is sent to nobody now."""

    def __init__(self, code: int, reply: str) -> None:
        self.code, self.reply = code, reply


@dataclass
class _Conversation:
    """Progress of an attempt: the step that it has reached, and the reply to its message."""

    step: _Step = "connect"
    reply: str | None = None


class SmtpSender:
    """Sends e-mails, each over a connection of its own; created and used in one event loop."""

    def __init__(
        self,
        server: MailServer,
        *,
        attempt_s: float = ATTEMPT_S,
        tls: ssl.SSLContext | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Send by ``server``; by default its certificate is checked with the system's."""
        self._server = server
        self._attempt_s = attempt_s
        self._tls = tls or (ssl.create_default_context() if server.tls != "none" else None)
        self._connections = asyncio.Semaphore(_CONNECTIONS)
        self._now = now

    async def send(self, request: EmailRequest) -> SendResult:
        """Make one attempt and return its result, also when the mail server fails."""
        started = time.perf_counter()
        try:
            recipients = addresses_of(request.url)
        except ValueError as error:
            return SendResult(None, "address_refused", 0.0, str(error))
        for recipient in recipients:
            if why := self._server.recipients.refusal(recipient):
                return SendResult(None, "address_refused", 0.0, why)
        mail = email_bytes(request.content, sender=self._server.sender, recipients=recipients, now=self._now())
        conversation = _Conversation()
        try:
            async with asyncio.timeout(self._attempt_s), self._connections:
                await self._converse(conversation, recipients, mail)
        except (SMTPException, _RefusedRecipientError, OSError, ValueError) as error:
            if conversation.reply is None:
                elapsed_ms = _elapsed_ms(started)
                status, kind, excerpt = _failure(error, conversation.step)
                return SendResult(status, kind, elapsed_ms, _excerpt(excerpt))
        return SendResult(250, None, _elapsed_ms(started), _excerpt(conversation.reply or ""))

    async def _converse(self, conversation: _Conversation, recipients: tuple[str, ...], mail: bytes) -> None:
        """Send the message and store the reply to it in ``conversation``."""
        server = self._server
        client = SMTP(
            hostname=server.host,
            port=server.port,
            # By default the name of this machine, for which a server of names would be asked.
            local_hostname=server.sender.rpartition("@")[2],
            use_tls=server.tls == "implicit",
            start_tls=False,
            tls_context=self._tls,
            timeout=self._attempt_s,
        )
        try:
            await client.connect()
            conversation.step = "tls"
            if server.tls == "starttls":
                await client.starttls()
            conversation.step = "login"
            if server.user is not None and server.password is not None:
                await client.login(server.user, server.password.get_secret_value())
            conversation.step = "sender"
            await client.mail(server.sender)
            conversation.step = "message"
            refused = await _name_recipients(client, recipients)
            answer = await client.data(mail)
            conversation.reply = "\n".join([f"{answer.code} {answer.message}", *refused])
            with contextlib.suppress(SMTPException, OSError):
                async with asyncio.timeout(_QUIT_S):
                    await client.quit()
        finally:
            transport = client.transport
            client.close()
            if conversation.reply is None and isinstance(transport, asyncio.WriteTransport):
                transport.abort()  # what is not sent yet would keep a connection open that nobody reads


async def _name_recipients(client: SMTP, recipients: tuple[str, ...]) -> list[str]:
    """Name the recipients; return the replies of those that are refused for good while others are accepted.

    Raises:
        _RefusedRecipientError: all are refused, or one for now: then nobody gets the message twice by a later attempt.
    """
    refused: list[_RefusedRecipientError] = []
    for recipient in recipients:
        try:
            await client.rcpt(recipient)
        except SMTPResponseException as error:
            refused.append(_RefusedRecipientError(error.code, f"{recipient}: {error.code} {error.message}"))
    deferred = next((reply for reply in refused if not 500 <= reply.code < 600), None)
    if deferred is not None:
        raise deferred
    if len(refused) == len(recipients):
        raise refused[0]
    return [reply.reply for reply in refused]


def _failure(error: Exception, step: _Step) -> tuple[int | None, AttemptError, str]:
    """Return the reply's code, the kind of a failure, and what of it the user is told.

    Before the message, what the mail server says concerns the operator and may name internal machines; a later attempt
    may find it repaired.
    """
    if isinstance(error, TimeoutError):
        return None, "timeout" if step == "connect" else "too_slow", ""
    if isinstance(error, ssl.SSLError) or isinstance(error.__cause__, ssl.SSLError):
        return None, "tls_failed", "The certificate or the TLS of the mail server is not accepted."
    if isinstance(error, _RefusedRecipientError):
        code, reply = error.code, error.reply
    elif isinstance(error, SMTPResponseException):
        code, reply = error.code, f"{error.code} {error.message}"
    elif isinstance(error, OSError):
        return None, "connect_failed", ""
    else:
        code, reply = 0, ""
    status = code if 200 <= code < 600 else None
    if step == "tls":
        return status, "tls_failed", "The mail server does not change to TLS (STARTTLS)."
    if step == "login" and not 400 <= code < 500:
        return status, "smtp_auth_failed", "The mail server does not accept the user or password of this server."
    if status is None:
        return None, "protocol_error", ""
    if step == "message":
        return status, "smtp_refused" if status >= 500 else "smtp_deferred", reply
    return status, "smtp_deferred", f"The mail server takes no message from this server now ({status})."


def _excerpt(text: str) -> str:
    """Return the start of a reply as text that can be stored."""
    return text.encode(errors="replace")[:EXCERPT_BYTES].decode(errors="ignore")


def _elapsed_ms(started: float) -> float:
    return round((time.perf_counter() - started) * 1000, 1)
