"""Routes of deliveries: list deliveries and attempts, request redeliveries."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Final, Self

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field, model_validator

from contracts.errors import ErrorCode, SaccadeError
from contracts.events.base import CURSOR_PATTERN, Cursor
from contracts.ids import id_pattern, is_id
from contracts.limits import PAGE_DEFAULT, PAGE_MAX
from kit.auth.principal import Reader, Writer
from kit.http.path_ids import DeliveryId, ReceiverId, WebhookId
from kit.http.point_in_time import PointText
from kit.http.problems import problem_responses
from kit.http.request_body import RequestBody
from services.notifier.streams.sse import parse_since
from services.notifier.webhooks.deliveries.delivery import DeliveryAttempt, DeliveryState, TrackedDelivery
from services.notifier.webhooks.deliveries.delivery_service import DeliveryService
from services.notifier.webhooks.deliveries.replayed_deliveries import ReplayedDelivery
from services.notifier.webhooks.endpoints.endpoints_read import ENDPOINTS_READ

router = APIRouter(
    prefix="/v1/webhooks",
    tags=["webhooks"],
    dependencies=[ENDPOINTS_READ],
    responses=problem_responses(ErrorCode.WEBHOOKS_NOT_CONFIGURED),
)

_E = ErrorCode
_REPLAY_ID: Final = id_pattern("rpl")


async def _service(request: Request) -> DeliveryService:
    service: DeliveryService | None = request.app.state.delivery_service
    if service is None:
        raise SaccadeError(ErrorCode.WEBHOOKS_NOT_CONFIGURED)
    return service


#: Raises WEBHOOKS_NOT_CONFIGURED. The application keeps its ``delivery_service`` in its state.
Service = Annotated[DeliveryService, Depends(_service)]


class DeliveryObject(BaseModel):
    """Delivery of one event to one endpoint; `id` is the event's cursor."""

    id: str
    event_id: str
    event_type: str
    event_subject: str
    state: DeliveryState
    attempts: int
    last_status: int | None
    last_error: str | None
    next_attempt_at: datetime | None
    updated_at: datetime
    replay: str | None = Field(default=None, description="The replay that sent it, if it was not delivered live.")


class DeliveryPage(BaseModel):
    """Deliveries, newest event first; those of a replay in its order."""

    data: list[DeliveryObject]
    next_cursor: str | None


class AttemptObject(BaseModel):
    """Outcome of one attempt."""

    attempt: int
    at: datetime
    status: int | None
    error: str | None
    latency_ms: float
    response_excerpt: str = Field(description="The first kilobyte of the answer.")
    url_origin: str
    next_attempt_at: datetime | None


class AttemptList(BaseModel):
    """All attempts of a delivery, in order."""

    data: list[AttemptObject]
    next_cursor: None = None


def _only(name: str) -> dict[str, Any]:
    """Return the JSON Schema of an object in which this field is given."""
    return {"required": [name], "properties": {name: {"type": "string"}}}


class Redelivery(RequestBody):
    """Request to send again: one delivery, or all events since."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [_only("delivery_id"), _only("since")]})

    delivery_id: Annotated[str, Field(json_schema_extra={"pattern": CURSOR_PATTERN})] | None = None
    since: PointText | None = Field(default=None, description="A cursor, an RFC 3339 time or seconds before now.")

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.delivery_id is None) == (self.since is None):
            raise ValueError("send either delivery_id or since")
        return self


class RedeliveryObject(BaseModel):
    """Accepted request to send again."""

    webhook_id: str
    delivery_id: str | None
    since: str | None
    events: int = Field(description="Number of events that are sent again; none is older than the endpoint.")


def _delivery_object(delivery: TrackedDelivery, epoch: str) -> DeliveryObject:
    return DeliveryObject(
        id=str(Cursor(epoch, delivery.sequence)),
        event_id=delivery.event_id,
        event_type=delivery.event_type,
        event_subject=delivery.event_subject,
        state=delivery.state,
        attempts=delivery.attempts,
        last_status=delivery.last_status,
        last_error=delivery.last_error,
        next_attempt_at=delivery.due if delivery.state is DeliveryState.PENDING else None,
        updated_at=delivery.updated_at,
    )


def _replayed_object(delivery: ReplayedDelivery, replay_id: str, epoch: str) -> DeliveryObject:
    data = delivery.data
    return DeliveryObject(
        id=str(Cursor(epoch, data.sequence)),
        event_id=data.event_id,
        event_type=data.event_type,
        event_subject=data.event_subject,
        state=delivery.state,
        attempts=1,
        last_status=data.status,
        last_error=data.error,
        next_attempt_at=None,
        updated_at=delivery.at,
        replay=replay_id,
    )


def _attempt_object(attempt: DeliveryAttempt) -> AttemptObject:
    return AttemptObject.model_validate(attempt, from_attributes=True)


def _cursor(text: str, code: ErrorCode) -> Cursor:
    try:
        return Cursor.parse(text)
    except ValueError:
        raise SaccadeError(code) from None


@router.get(
    "/{webhook_id}/deliveries",
    responses=problem_responses(_E.WEBHOOK_NOT_FOUND, _E.CURSOR_INVALID, _E.REPLAY_NOT_FOUND),
    summary="List deliveries",
)
async def list_deliveries(
    *,
    caller: Reader,
    service: Service,
    webhook_id: ReceiverId,
    state: DeliveryState | None = None,
    limit: Annotated[int, Query(ge=1, le=PAGE_MAX)] = PAGE_DEFAULT,
    cursor: Annotated[
        str | None,
        Query(description="`next_cursor` of the previous page.", json_schema_extra={"pattern": CURSOR_PATTERN}),
    ] = None,
    replay: Annotated[
        str | None,
        Query(
            description="A replay into this endpoint: what it has sent, which no other list shows.",
            json_schema_extra={"pattern": _REPLAY_ID},
        ),
    ] = None,
) -> DeliveryPage:
    """Return the deliveries to an endpoint, newest event first; a job's id returns those to its own `webhook_url`."""
    before = _cursor(cursor, ErrorCode.CURSOR_INVALID) if cursor is not None else None
    if replay is not None:
        if not is_id(replay, "rpl"):
            raise SaccadeError(ErrorCode.REPLAY_NOT_FOUND)
        sent, next_sent = await service.list_replayed(
            caller.tenant, webhook_id, replay, state=state, limit=limit, after=before
        )
        replayed = [_replayed_object(delivery, replay, service.epoch) for delivery in sent]
        return DeliveryPage(data=replayed, next_cursor=str(next_sent) if next_sent else None)
    found, following = service.list_deliveries(caller.tenant, webhook_id, state, limit, before)
    data = [_delivery_object(delivery, service.epoch) for delivery in found]
    return DeliveryPage(data=data, next_cursor=str(following) if following else None)


@router.get(
    "/{webhook_id}/deliveries/{delivery_id}/attempts",
    responses=problem_responses(_E.WEBHOOK_NOT_FOUND, _E.DELIVERY_NOT_FOUND),
    summary="List the attempts of a delivery",
)
async def list_attempts(
    caller: Reader, service: Service, webhook_id: ReceiverId, delivery_id: DeliveryId
) -> AttemptList:
    """Return the attempts of a delivery, in order."""
    delivery = _cursor(delivery_id, ErrorCode.DELIVERY_NOT_FOUND)
    found = service.attempts(caller.tenant, webhook_id, delivery)
    return AttemptList(data=[_attempt_object(attempt) for attempt in found])


@router.post(
    "/{webhook_id}/redeliver",
    status_code=202,
    responses=problem_responses(
        _E.WEBHOOK_NOT_FOUND,
        _E.WEBHOOK_DISABLED,
        _E.DELIVERY_NOT_FOUND,
        _E.CURSOR_INVALID,
        _E.INVALID_PARAMETER,
        _E.HISTORY_EXPIRED,
    ),
    summary="Send one event, or all since, again",
)
async def redeliver(caller: Writer, service: Service, webhook_id: WebhookId, body: Redelivery) -> RedeliveryObject:
    """Send one event again, or all subscribed events since a time. The request is stored when this answers."""
    if body.delivery_id is not None:
        delivery = _cursor(body.delivery_id, ErrorCode.DELIVERY_NOT_FOUND)
        count = await service.redeliver(caller.tenant, webhook_id, delivery, all_since=False)
    else:
        since = parse_since(body.since or "", datetime.now(UTC))
        count = await service.redeliver(caller.tenant, webhook_id, since, all_since=True)
    return RedeliveryObject(webhook_id=webhook_id, delivery_id=body.delivery_id, since=body.since, events=count)
