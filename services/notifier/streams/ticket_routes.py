"""``POST /v1/tickets``: a ticket for an EventSource or WebSocket, which cannot send an API key in a header."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field
from starlette.requests import HTTPConnection

from contracts.errors import ErrorCode, SaccadeError
from contracts.limits import KIB
from contracts.quotas import QuotaName
from kit.auth.api_keys import Authenticator, Principal, ScopeName
from kit.auth.mapped_credential import caller_of, known_caller
from kit.auth.principal import ACCEPTS_KEY, Reader, ScopedCaller
from kit.auth.tickets import RESOURCE_PATTERN, Tickets
from kit.http.problems import problem_responses
from kit.http.request_body import RequestBody, parse_body

router = APIRouter(tags=["events"], dependencies=[ACCEPTS_KEY])

_BODY_BYTES: Final = 4 * KIB


class NewTicket(RequestBody):
    """Stream that the ticket is for."""

    resource: str = Field(
        max_length=200,
        examples=["/v1/events"],
        description="Path of one stream, without a query.",
        json_schema_extra={"pattern": RESOURCE_PATTERN},
    )


class TicketObject(BaseModel):
    """A ticket; an EventSource opens ``url``, any number of times until ``expires_at``."""

    ticket: str
    resource: str
    url: str
    expires_at: datetime


class StreamCaller(ScopedCaller):
    """The caller of a stream, by its key, its browser's session or its ticket."""

    async def __call__(self, request: Request) -> Principal:
        """Authenticate a request for a stream.

        Raises:
            SaccadeError: UNAUTHENTICATED, FORBIDDEN, RATE_LIMITED.
        """
        return _stream_principal_of(request, *self.scopes)


def _stream_principal_of(request: Request, *scopes: ScopeName) -> Principal:
    """Authenticate a request for a stream by API key, or by the ticket in ``?ticket=``, with one of some scopes.

    Raises:
        SaccadeError: UNAUTHENTICATED, FORBIDDEN, RATE_LIMITED.
    """
    authenticator: Authenticator = request.app.state.authenticator
    text = request.query_params.get("ticket")
    if not text or not authenticator.authenticated or "authorization" in request.headers:
        return caller_of(authenticator, request, *scopes)
    tickets: Tickets = request.app.state.tickets
    principal = tickets.admit(authenticator, text, request.url.path, datetime.now(UTC))
    principal.require(*scopes)
    authenticator.quotas.take(principal.tenant, QuotaName.REQUESTS)
    return principal


def known_stream_caller(authenticator: Authenticator, tickets: Tickets, connection: HTTPConnection) -> Principal | None:
    """Return the caller of a request, by its ticket too, without counting it; None when it has no valid credential."""
    text = connection.query_params.get("ticket")
    if not text or not authenticator.authenticated or "authorization" in connection.headers:
        return known_caller(authenticator, connection)
    try:
        return tickets.admit(authenticator, text, connection.url.path, datetime.now(UTC))
    except SaccadeError:
        return None


@router.post(
    "/v1/tickets",
    status_code=201,
    responses=problem_responses(ErrorCode.INVALID_PARAMETER, ErrorCode.BODY_TOO_LARGE),
    openapi_extra={
        "requestBody": {"required": True, "content": {"application/json": {"schema": NewTicket.model_json_schema()}}}
    },
    summary="A ticket for a browser's EventSource",
)
async def create_ticket(request: Request, response: Response, principal: Reader) -> TicketObject:
    """Return a ticket for one of your streams, as part of the URL that a browser's EventSource opens."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _BODY_BYTES:
            raise SaccadeError(ErrorCode.BODY_TOO_LARGE)
    ticket_request = parse_body(NewTicket, bytes(body))
    tickets: Tickets = request.app.state.tickets
    ticket, expires_at = tickets.issue(principal, ticket_request.resource, datetime.now(UTC))
    response.headers["Cache-Control"] = "no-store"
    url = f"{ticket_request.resource}?ticket={ticket}"
    return TicketObject(ticket=ticket, resource=ticket_request.resource, url=url, expires_at=expires_at)
