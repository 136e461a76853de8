"""Webhook endpoints: where the server sends events to by itself, and what became of them.

To verify what arrives at such an endpoint, see ``saccade.webhook``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any, Final

from saccade.api import Api, PageIterator, Since, format_moment, path_segment, without_none
from saccade.transport import iterate, iterate_async, run_blocking
from saccade.views import AttemptView, DeliveryView, WebhookTest, WebhookView

_ALL: Final = "/v1/webhooks"
_DEFAULT: Final = "/v1/webhooks/default"


class WebhooksClient:
    """The endpoints of one's own; ``client.webhooks``."""

    def __init__(self, api: Api) -> None:
        """Ask by ``api``."""
        self._api = api

    def create(
        self,
        url: str,
        *,
        types: Sequence[str] = (),
        description: str = "",
        headers: Mapping[str, str] | None = None,
        rate_per_s: float | None = None,
        ordered: bool = False,
        signing: str = "v1",
    ) -> WebhookView:
        """Make an endpoint for events of these types (``job.succeeded``, ``job.*``; none: all) from now on.

        Its ``secret`` is shown in this answer and never again.
        """
        body = _endpoint(url, types, description, headers, rate_per_s=rate_per_s, ordered=ordered, signing=signing)
        return run_blocking(self._api.post(WebhookView, _ALL, json=body))

    def all(self) -> list[WebhookView]:
        """List the endpoints, the oldest first."""
        return run_blocking(self._api.listed(WebhookView, _ALL))

    def get(self, webhook_id: str) -> WebhookView:
        """Read an endpoint."""
        return run_blocking(self._api.get(WebhookView, _one(webhook_id)))

    def change(self, webhook_id: str, **changes: Any) -> WebhookView:
        """Change what ``create`` takes, or ``enabled``; what is left out stays."""
        return run_blocking(self._api.patch(WebhookView, _one(webhook_id), changes))

    def delete(self, webhook_id: str) -> None:
        """Delete an endpoint; what still waits for it is not sent."""
        run_blocking(self._api.call("DELETE", _one(webhook_id)))

    def rotate_secret(self, webhook_id: str, *, overlap_s: float | None = None) -> WebhookView:
        """Give an endpoint a new ``secret``; the old one signs too for ``overlap_s`` (a day, at most a week)."""
        body = without_none({"overlap_s": overlap_s})
        return run_blocking(self._api.post(WebhookView, _one(webhook_id, "rotate-secret"), json=body))

    def test(self, webhook_id: str) -> WebhookTest:
        """Send an example now, once, and say what the endpoint answered."""
        return run_blocking(self._api.post(WebhookTest, _one(webhook_id, "test")))

    def deliveries(self, webhook_id: str, *, state: str | None = None) -> Iterator[DeliveryView]:
        """Iterate over what was sent or waits, newest event first; a job's id names its own ``webhook_url``."""
        return iterate(PageIterator(self._api, DeliveryView, _one(webhook_id, "deliveries"), {"state": state}))

    def attempts(self, webhook_id: str, delivery_id: str) -> list[AttemptView]:
        """List the attempts of a delivery, in order."""
        return run_blocking(self._api.listed(AttemptView, _one(webhook_id, "deliveries", delivery_id, "attempts")))

    def redeliver(self, webhook_id: str, delivery_id: str | None = None, *, since: Since | None = None) -> None:
        """Send one event once more, or all since a moment; it is stored when this returns."""
        body = without_none({"delivery_id": delivery_id, "since": format_moment(since)})
        run_blocking(self._api.call("POST", _one(webhook_id, "redeliver"), json=body))

    def default_secret(self) -> str:
        """Give the secret by which the webhooks of a job's own ``webhook_url`` are signed."""
        return str(run_blocking(self._api.call("GET", f"{_DEFAULT}/secret"))["secret"])

    def rotate_default_secret(self, *, overlap_s: float | None = None) -> str:
        """Give them a new secret; the old one signs too for ``overlap_s`` (a day, at most a week)."""
        body = without_none({"overlap_s": overlap_s})
        return str(run_blocking(self._api.call("POST", f"{_DEFAULT}/rotate-secret", json=body))["secret"])

    def public_keys(self) -> dict[str, Any]:
        """Give the key set by which ``v1a`` signatures are verified."""
        return run_blocking(self._api.call("GET", f"{_ALL}/keys"))


class AsyncWebhooksClient:
    """The endpoints of one's own; ``client.webhooks``."""

    def __init__(self, api: Api) -> None:
        """Ask by ``api``."""
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
    ) -> WebhookView:
        """Make an endpoint for events of these types (``job.succeeded``, ``job.*``; none: all) from now on.

        Its ``secret`` is shown in this answer and never again.
        """
        body = _endpoint(url, types, description, headers, rate_per_s=rate_per_s, ordered=ordered, signing=signing)
        return await self._api.post(WebhookView, _ALL, json=body)

    async def all(self) -> list[WebhookView]:
        """List the endpoints, the oldest first."""
        return await self._api.listed(WebhookView, _ALL)

    async def get(self, webhook_id: str) -> WebhookView:
        """Read an endpoint."""
        return await self._api.get(WebhookView, _one(webhook_id))

    async def change(self, webhook_id: str, **changes: Any) -> WebhookView:
        """Change what ``create`` takes, or ``enabled``; what is left out stays."""
        return await self._api.patch(WebhookView, _one(webhook_id), changes)

    async def delete(self, webhook_id: str) -> None:
        """Delete an endpoint; what still waits for it is not sent."""
        await self._api.call("DELETE", _one(webhook_id))

    async def rotate_secret(self, webhook_id: str, *, overlap_s: float | None = None) -> WebhookView:
        """Give an endpoint a new ``secret``; the old one signs too for ``overlap_s`` (a day, at most a week)."""
        body = without_none({"overlap_s": overlap_s})
        return await self._api.post(WebhookView, _one(webhook_id, "rotate-secret"), json=body)

    async def test(self, webhook_id: str) -> WebhookTest:
        """Send an example now, once, and say what the endpoint answered."""
        return await self._api.post(WebhookTest, _one(webhook_id, "test"))

    def deliveries(self, webhook_id: str, *, state: str | None = None) -> AsyncIterator[DeliveryView]:
        """Iterate over what was sent or waits, newest event first; a job's id names its own ``webhook_url``."""
        return iterate_async(PageIterator(self._api, DeliveryView, _one(webhook_id, "deliveries"), {"state": state}))

    async def attempts(self, webhook_id: str, delivery_id: str) -> list[AttemptView]:
        """List the attempts of a delivery, in order."""
        return await self._api.listed(AttemptView, _one(webhook_id, "deliveries", delivery_id, "attempts"))

    async def redeliver(self, webhook_id: str, delivery_id: str | None = None, *, since: Since | None = None) -> None:
        """Send one event once more, or all since a moment; it is stored when this returns."""
        body = without_none({"delivery_id": delivery_id, "since": format_moment(since)})
        await self._api.call("POST", _one(webhook_id, "redeliver"), json=body)

    async def default_secret(self) -> str:
        """Give the secret by which the webhooks of a job's own ``webhook_url`` are signed."""
        return str((await self._api.call("GET", f"{_DEFAULT}/secret"))["secret"])

    async def rotate_default_secret(self, *, overlap_s: float | None = None) -> str:
        """Give them a new secret; the old one signs too for ``overlap_s`` (a day, at most a week)."""
        body = without_none({"overlap_s": overlap_s})
        return str((await self._api.call("POST", f"{_DEFAULT}/rotate-secret", json=body))["secret"])

    async def public_keys(self) -> dict[str, Any]:
        """Give the key set by which ``v1a`` signatures are verified."""
        return await self._api.call("GET", f"{_ALL}/keys")


def _one(webhook_id: str, *more: str) -> str:
    return "/".join([_ALL, path_segment(webhook_id), *map(path_segment, more)])


def _endpoint(
    url: str, types: Sequence[str], description: str, headers: Mapping[str, str] | None, **options: Any
) -> dict[str, Any]:
    named = {"url": url, "types": list(types), "description": description, "headers": dict(headers or {})}
    return without_none(named | options)
