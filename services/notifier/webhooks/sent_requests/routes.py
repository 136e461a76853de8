"""Route that shows the request of an attempt as it was sent."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Path, Request
from pydantic import BaseModel, Field

from contracts.errors import ErrorCode, SaccadeError
from contracts.events.base import Cursor
from kit.auth.principal import Reader
from kit.http.path_ids import DeliveryId, ReceiverId
from kit.http.problems import problem_responses
from services.notifier.webhooks.endpoints.endpoints_read import ENDPOINTS_READ
from services.notifier.webhooks.sent_requests.sent_request import SentRequests

router = APIRouter(
    prefix="/v1/webhooks",
    tags=["webhooks"],
    dependencies=[ENDPOINTS_READ],
    responses=problem_responses(ErrorCode.WEBHOOKS_NOT_CONFIGURED),
)


class SentHeader(BaseModel):
    """A header of a request."""

    name: str
    value: str | None = Field(description="Null: one of the endpoint's own headers, whose values are not shown.")


class SentRequestObject(BaseModel):
    """A request as an attempt has sent it."""

    method: Literal["POST"] = "POST"
    url: str
    target: str = Field(description="Path and query, as in the request's first line.")
    headers: list[SentHeader] = Field(description="In the order in which they were sent.")
    body: str
    exact: bool = Field(
        description="False: the endpoint was changed after the attempt, or its signature was not recorded; address, "
        "headers or message may differ from what was sent."
    )


async def _sent_requests(request: Request) -> SentRequests:
    requests: SentRequests | None = request.app.state.sent_requests
    if requests is None:
        raise SaccadeError(ErrorCode.WEBHOOKS_NOT_CONFIGURED)
    return requests


@router.get(
    "/{webhook_id}/deliveries/{delivery_id}/attempts/{attempt}/request",
    responses=problem_responses(ErrorCode.WEBHOOK_NOT_FOUND, ErrorCode.DELIVERY_NOT_FOUND),
    summary="The request of an attempt",
)
async def get_sent_request(
    caller: Reader,
    requests: Annotated[SentRequests, Depends(_sent_requests)],
    webhook_id: ReceiverId,
    delivery_id: DeliveryId,
    attempt: Annotated[int, Path(ge=1, le=2**31 - 1)],
) -> SentRequestObject:
    """Return the request of an attempt with its signature, by HTTP; the endpoint's own headers without their values."""
    try:
        delivery = Cursor.parse(delivery_id)
    except ValueError:
        raise SaccadeError(ErrorCode.DELIVERY_NOT_FOUND) from None
    sent = await requests.find(caller.tenant, webhook_id, delivery, attempt)
    headers = [SentHeader(name=name, value=value) for name, value in sent.headers]
    return SentRequestObject(url=sent.url, target=sent.target, headers=headers, body=sent.body, exact=sent.exact)
