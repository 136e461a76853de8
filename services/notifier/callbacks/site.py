"""Requests to sites: guarded like webhooks, one attempt each, with answers that are checked."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Final, TypeVar

from contracts.callback import Callback
from contracts.limits import KIB
from services.notifier.callbacks.origin_slots import OriginSlots, UploadSlots
from services.notifier.callbacks.site_requests import (
    AnswerError,
    SiteRequest,
    check_confirmation,
    storage_id_of,
    upload_url_of,
    upload_url_request,
    urls_of,
)
from services.notifier.webhooks.deliveries.planner import origin_of
from services.notifier.webhooks.deliveries.retry_schedule import is_responsive
from services.notifier.webhooks.sending.sender import Sender, SendResult, StreamedBody, WebhookRequest

T = TypeVar("T")

_ANSWER_BYTES: Final = 16 * KIB
#: Time limit of a request; of an upload, for each of its chunks and for the answer after the last one.
_REQUEST_S: Final = 15.0
_UPLOAD_S: Final = 60.0
#: Result of an attempt whose answer is not what the request is answered with.
_UNREADABLE: Final = SendResult(200, "protocol_error", 0.0)
_NO_ROUTE: Final = frozenset({404, 405})


class SiteError(Exception):
    """A site did not accept a request; the message says which and how it answered, without its query."""

    def __init__(self, message: str, result: SendResult) -> None:
        """Keep the result, from which the delay of the next attempt follows."""
        super().__init__(message)
        self.result = result


@dataclass(frozen=True)
class Site:
    """Sends requests of callbacks."""

    sender: Sender
    slots: OriginSlots
    on_attempt: Callable[[str], None]
    upload_slots: UploadSlots = field(default_factory=UploadSlots)

    async def send(self, callback: Callback, request: SiteRequest) -> bytes:
        """Make one attempt of a request and return its answer.

        Raises:
            SiteError: the site did not accept it.
        """
        *likely, last = urls_of(callback, request)
        for url in likely:
            try:
                return await self._post(callback.tenant, url, request)
            except SiteError as error:
                if error.result.status not in _NO_ROUTE:
                    raise
        return await self._post(callback.tenant, last, request)

    async def upload(self, callback: Callback, body: StreamedBody, content_type: str) -> str:
        """Store a file at the site and return its storage id.

        Raises:
            SiteError: the site did not accept it.
        """
        request = upload_url_request(callback)
        answer = await self.send(callback, request)
        try:
            url = upload_url_of(answer)
        except AnswerError as error:  # not quoted: with another form of the answer, the URL and its token are in it
            raise SiteError(f"{request.path} answered 2xx, but {error}", _UNREADABLE) from error
        webhook = WebhookRequest(
            url, {}, body, _UPLOAD_S, content_type, excerpt_bytes=_ANSWER_BYTES, tenant=callback.tenant
        )
        stored = await self._attempt(webhook, "the upload", self.upload_slots.slot(callback.tenant, origin_of(url)))
        return _checked(lambda: storage_id_of(stored), "the upload", stored)

    async def _post(self, tenant: str, url: str, request: SiteRequest) -> bytes:
        webhook = WebhookRequest(url, {}, request.encoded(), _REQUEST_S, excerpt_bytes=_ANSWER_BYTES, tenant=tenant)
        answer = await self._attempt(webhook, request.path, self.slots.slot(origin_of(url)))
        if request.confirmed:
            _checked(lambda: check_confirmation(answer), request.path, answer)
        return answer

    async def _attempt(self, webhook: WebhookRequest, what: str, slot: AbstractAsyncContextManager[None]) -> bytes:
        async with slot:
            result = await self.sender.send(webhook)
            self.slots.record(origin_of(webhook.url), failed=not is_responsive(result.status))
        self.on_attempt(result.error or "delivered")
        if result.error is None:
            return result.excerpt.encode()
        answered = f"answered {result.status}: {result.excerpt[:300]}" if result.status else f"failed: {result.error}"
        raise SiteError(f"{what} {answered}", result)


def _checked(read: Callable[[], T], what: str, answer: bytes) -> T:
    """Return what is read from an answer.

    Raises:
        SiteError: it is not what the request is answered with.
    """
    try:
        return read()
    except AnswerError as error:
        excerpt = answer[:300].decode(errors="replace")
        raise SiteError(f"{what} answered 2xx, but {error}: {excerpt}", _UNREADABLE) from error
