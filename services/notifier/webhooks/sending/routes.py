"""Route that sends an example webhook to an endpoint now."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, Field

from contracts.errors import ErrorCode, SaccadeError
from kit.auth.principal import Writer
from kit.http.path_ids import WebhookId
from kit.http.problems import problem_responses
from services.notifier.webhooks.endpoints.endpoints_read import ENDPOINTS_READ
from services.notifier.webhooks.sending.example_sender import ExampleSender

router = APIRouter(
    prefix="/v1/webhooks",
    tags=["webhooks"],
    dependencies=[ENDPOINTS_READ],
    responses=problem_responses(ErrorCode.WEBHOOKS_NOT_CONFIGURED),
)


async def _service(request: Request) -> ExampleSender:
    service: ExampleSender | None = request.app.state.example_sender
    if service is None:
        raise SaccadeError(ErrorCode.WEBHOOKS_NOT_CONFIGURED)
    return service


class TestMessage(BaseModel):
    """Message that was sent."""

    subject: str = Field(description="Of an e-mail.")
    text: str


class TestAnswer(BaseModel):
    """Answer of an endpoint to an example."""

    delivered: bool
    status: int | None
    error: str | None
    latency_ms: float
    response_excerpt: str
    message: TestMessage | None = Field(
        description="The message that was sent, with example values in its template; null for `cloudevents`."
    )


@router.post(
    "/{webhook_id}/test", responses=problem_responses(ErrorCode.WEBHOOK_NOT_FOUND), summary="Send an example now"
)
async def test_webhook(
    caller: Writer, service: Annotated[ExampleSender, Depends(_service)], webhook_id: WebhookId
) -> TestAnswer:
    """Send an example to the endpoint now, once, and return its answer."""
    sent = await service.send(caller.tenant, webhook_id)
    result, message = sent.result, sent.message
    return TestAnswer(
        delivered=result.error is None,
        status=result.status,
        error=result.error,
        latency_ms=result.latency_ms,
        response_excerpt=result.excerpt,
        message=TestMessage(subject=message.subject, text=message.text) if message else None,
    )
