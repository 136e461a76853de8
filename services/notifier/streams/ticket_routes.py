"""``POST /v1/tickets``: a ticket for an EventSource or WebSocket, which cannot send an API key in a header."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from contracts.errors import ErrorCode, SaccadeError
from contracts.limits import KIB
from kit.auth.api_keys import Authenticator, Principal
from kit.auth.tickets import Tickets
from kit.http.problems import invalid_values, problem_responses

router = APIRouter(tags=["events"])

_BODY_BYTES: Final = 4 * KIB


class NewTicket(BaseModel):
    """Which stream the ticket is for."""

    model_config = ConfigDict(extra="forbid")

    resource: str = Field(max_length=200, examples=["/v1/events"], description="Path of one stream, without a query.")


class TicketObject(BaseModel):
    """A ticket; ``url`` is what an EventSource opens, as often as it likes until ``expires_at``."""

    ticket: str
    resource: str
    url: str
    expires_at: datetime


async def principal_of(request: Request) -> Principal:
    """Tell who asks for a stream: by API key, or by the ticket in ``?ticket=``.

    Raises:
        SaccadeError: UNAUTHENTICATED, FORBIDDEN.
    """
    authenticator: Authenticator = request.app.state.authenticator
    text = request.query_params.get("ticket")
    if not text or not authenticator.authenticated or "authorization" in request.headers:
        return authenticator.authenticate(request.headers, "read")
    tickets: Tickets = request.app.state.tickets
    principal = tickets.admit(authenticator, text, request.url.path, datetime.now(UTC))
    principal.require("read")
    return principal


@router.post(
    "/v1/tickets",
    status_code=201,
    responses=problem_responses(ErrorCode.INVALID_PARAMETER, ErrorCode.BODY_TOO_LARGE),
    openapi_extra={"requestBody": {"content": {"application/json": {"schema": NewTicket.model_json_schema()}}}},
    summary="A ticket for a browser's EventSource",
)
async def create_ticket(
    request: Request, response: Response, principal: Annotated[Principal, Depends(principal_of)]
) -> TicketObject:
    """Give a ticket for one stream of yours, to be put into the URL that a browser's EventSource opens."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _BODY_BYTES:
            raise SaccadeError(ErrorCode.BODY_TOO_LARGE)
    try:
        wanted = NewTicket.model_validate_json(bytes(body))
    except ValidationError as error:
        if any(one["type"] == "json_invalid" for one in error.errors()):
            raise SaccadeError(ErrorCode.MALFORMED_REQUEST, "The body is not valid JSON.") from error
        raise invalid_values(error.errors()) from error
    tickets: Tickets = request.app.state.tickets
    ticket, expires_at = tickets.issue(principal.tenant, principal.key_id, wanted.resource, datetime.now(UTC))
    response.headers["Cache-Control"] = "no-store"
    url = f"{wanted.resource}?ticket={ticket}"
    return TicketObject(ticket=ticket, resource=wanted.resource, url=url, expires_at=expires_at)
