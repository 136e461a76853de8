"""Webhook endpoints and their deliveries for asyncio programs.

To verify the requests that such an endpoint receives, see ``saccade_client.webhook``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from saccade_client.api import Api, PageIterator
from saccade_client.request_parts import (
    DEFAULT_WEBHOOK_PATH,
    WEBHOOKS_PATH,
    Since,
    format_moment,
    webhook_body,
    webhook_path,
    without_none,
)
from saccade_client.transport import iterate_async
from saccade_client.views import AttemptView, DeliveryView, WebhookTest, WebhookView


class AsyncWebhooksClient:
    """The tenant's webhook endpoints: ``client.webhooks``."""

    def __init__(self, api: Api) -> None:
        """Send requests with ``api``."""
        self._api = api

    async def create(
        self,
        url: str,
        *,
        types: Sequence[str] = (),
        description: str = "",
        headers: Mapping[str, str] | None = None,
        rate_per_s: float | None = None,
        ordered: bool = False,
        signing: str = "v1",
        format: str = "cloudevents",  # noqa: A002 - the name of the field
        quiet_hours: Mapping[str, str] | None = None,
        template: str | None = None,
        subject: str | None = None,
    ) -> WebhookView:
        """Create an endpoint for new events of these types (``job.succeeded``, ``job.*``; none: all).

        Its ``secret`` is in this answer and never shown again. ``format`` ``poke``, ``slack``, ``text`` or ``email``
        (to a ``mailto:`` URL) sends a message about each event instead of the event: a sentence, or a ``template`` such
        as ``{{job.title}} failed: {{error.message}}``, for e-mail with a ``subject``. ``quiet_hours`` are ``start``,
        ``end`` and ``time_zone``.
        """
        options = {"signing": signing, "format": format, "quiet_hours": quiet_hours}
        options |= without_none({"template": template, "subject": subject})
        body = webhook_body(url, types, description, headers, rate_per_s=rate_per_s, ordered=ordered, **options)
        return await self._api.post(WebhookView, WEBHOOKS_PATH, json=body)

    async def all(self) -> list[WebhookView]:
        """List the endpoints, oldest first."""
        return await self._api.listed(WebhookView, WEBHOOKS_PATH)

    async def get(self, webhook_id: str) -> WebhookView:
        """Read an endpoint."""
        return await self._api.get(WebhookView, webhook_path(webhook_id))

    async def change(self, webhook_id: str, **changes: Any) -> WebhookView:
        """Change what ``create`` takes, or ``enabled``; other fields stay."""
        return await self._api.patch(WebhookView, webhook_path(webhook_id), changes)

    async def delete(self, webhook_id: str) -> None:
        """Delete an endpoint; its pending deliveries are not sent."""
        await self._api.delete(webhook_path(webhook_id))

    async def rotate_secret(self, webhook_id: str, *, overlap_s: float | None = None) -> WebhookView:
        """Replace an endpoint's ``secret``; the old one also signs for ``overlap_s`` (a day; at most a week)."""
        body = without_none({"overlap_s": overlap_s})
        return await self._api.post(WebhookView, webhook_path(webhook_id, "rotate-secret"), json=body)

    async def test(self, webhook_id: str) -> WebhookTest:
        """Send one example event now and return the endpoint's answer."""
        return await self._api.post(WebhookTest, webhook_path(webhook_id, "test"))

    def deliveries(self, webhook_id: str, *, state: str | None = None) -> AsyncIterator[DeliveryView]:
        """Iterate over an endpoint's deliveries, newest event first; a job's id stands for its own ``webhook_url``."""
        path = webhook_path(webhook_id, "deliveries")
        return iterate_async(PageIterator(self._api, DeliveryView, path, {"state": state}))

    async def attempts(self, webhook_id: str, delivery_id: str) -> list[AttemptView]:
        """List the attempts of a delivery, in order."""
        return await self._api.listed(AttemptView, webhook_path(webhook_id, "deliveries", delivery_id, "attempts"))

    async def redeliver(self, webhook_id: str, delivery_id: str | None = None, *, since: Since | None = None) -> int:
        """Deliver one event again, or all since a moment; the request is stored when this returns.

        Return the number of events; none is older than the endpoint.
        """
        body = without_none({"delivery_id": delivery_id, "since": format_moment(since)})
        return int((await self._api.call("POST", webhook_path(webhook_id, "redeliver"), json=body)).get("events", 1))

    async def default_secret(self) -> str:
        """Return the secret that signs the webhooks of jobs' own ``webhook_url``."""
        return str((await self._api.call("GET", f"{DEFAULT_WEBHOOK_PATH}/secret"))["secret"])

    async def rotate_default_secret(self, *, overlap_s: float | None = None) -> str:
        """Replace the default secret; the old one also signs for ``overlap_s`` (a day; at most a week)."""
        body = without_none({"overlap_s": overlap_s})
        return str((await self._api.call("POST", f"{DEFAULT_WEBHOOK_PATH}/rotate-secret", json=body))["secret"])

    async def public_keys(self, webhook_id: str | None = None) -> dict[str, Any]:
        """Return the JSON Web Key Set that verifies an endpoint's ``v1a`` signatures.

        Without an id, return that of endpoints which are older than endpoints' own keys; a receiver that accepts it
        accepts what was signed for any of them.
        """
        path = f"{WEBHOOKS_PATH}/keys" if webhook_id is None else webhook_path(webhook_id, "keys")
        return await self._api.call("GET", path)
