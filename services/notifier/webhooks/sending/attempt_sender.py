"""Sender of all attempts: a webhook or message goes by HTTP, an e-mail by SMTP; both have the same kind of result."""

from __future__ import annotations

from services.notifier.webhooks.sending.sender import Sender, SendResult, WebhookRequest
from services.notifier.webhooks.sending.smtp_sender import EmailRequest, SmtpSender

AttemptRequest = WebhookRequest | EmailRequest


class AttemptSender:
    """Sends requests by their protocol."""

    def __init__(self, http: Sender, smtp: SmtpSender | None = None) -> None:
        """Send by ``http``, and e-mails by ``smtp``: None where the operator has configured no mail server."""
        self._http = http
        self._smtp = smtp

    async def send(self, request: AttemptRequest) -> SendResult:
        """Make one attempt and return its result, also when the receiver fails."""
        if isinstance(request, WebhookRequest):
            return await self._http.send(request)
        if self._smtp is None:  # it was when the endpoint was created
            return SendResult(None, "email_not_configured", 0.0)
        return await self._smtp.send(request)
