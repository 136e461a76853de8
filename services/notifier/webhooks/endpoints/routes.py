"""Routes of webhook endpoints: create, read, change, rotate secrets, delete."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from contracts.errors import ErrorCode, SaccadeError
from kit.auth.principal import Reader, Writer
from kit.bus.idempotency import IdempotencyHeader, key_of
from kit.http.path_ids import WebhookId
from kit.http.problems import problem_responses
from services.notifier.webhooks.endpoints.endpoint_service import EndpointService
from services.notifier.webhooks.endpoints.endpoints_read import ENDPOINTS_READ
from services.notifier.webhooks.endpoints.schemas import (
    DefaultSecret,
    NewWebhook,
    PublicKeys,
    Rotation,
    WebhookChanges,
    WebhookObject,
    WebhookPage,
    WebhookWithSecret,
    default_secret_object,
    endpoint_object,
    endpoint_with_secret,
)

router = APIRouter(
    prefix="/v1/webhooks",
    tags=["webhooks"],
    dependencies=[ENDPOINTS_READ],
    responses=problem_responses(ErrorCode.WEBHOOKS_NOT_CONFIGURED),
)

_E = ErrorCode


async def _service(request: Request) -> EndpointService:
    service: EndpointService | None = request.app.state.endpoint_service
    if service is None:
        raise SaccadeError(ErrorCode.WEBHOOKS_NOT_CONFIGURED)
    return service


#: Raises WEBHOOKS_NOT_CONFIGURED. The application keeps its ``endpoint_service`` in its state.
Service = Annotated[EndpointService, Depends(_service)]


@router.post(
    "",
    status_code=201,
    responses={
        201: {"headers": {"Location": {"schema": {"type": "string"}}}},
        **problem_responses(
            # With a key whose endpoint was deleted since.
            _E.WEBHOOK_NOT_FOUND,
            _E.TOO_MANY_WEBHOOKS,
            _E.QUOTA_EXCEEDED,
            _E.IDEMPOTENCY_KEY_INVALID,
            _E.IDEMPOTENCY_KEY_REUSED,
            _E.EMAIL_NOT_CONFIGURED,
        ),
    },
    summary="Create an endpoint",
)
async def create_webhook(
    response: Response, caller: Writer, service: Service, body: NewWebhook, idempotency_key: IdempotencyHeader = None
) -> WebhookWithSecret:
    """Create an endpoint; it gets the events from now on. The answer shows its secret, once."""
    key = key_of(caller.tenant, "POST /v1/webhooks", idempotency_key, body)
    endpoint = await service.create(caller.tenant, dict(body), key)
    response.headers["Location"] = f"/v1/webhooks/{endpoint.id}"
    response.headers["Cache-Control"] = "no-store"
    return endpoint_with_secret(endpoint, service)


@router.get("", summary="List your endpoints")
async def list_webhooks(caller: Reader, service: Service) -> WebhookPage:
    """Return your endpoints, the oldest first."""
    return WebhookPage(data=[endpoint_object(endpoint, service) for endpoint in service.list_endpoints(caller.tenant)])


@router.get("/keys", summary="The public key that endpoints had in common", deprecated=True)
async def get_shared_public_keys(service: Service) -> PublicKeys:
    """Return the public key of endpoints that are older than endpoints' own keys and were not rotated since.

    A receiver that accepts it accepts what was signed for any of them: use `GET /v1/webhooks/{webhook_id}/keys`.
    """
    return PublicKeys.of(service.shared_public_keys())


@router.get("/default/secret", summary="The secret of jobs' own webhook_url")
async def get_default_secret(response: Response, caller: Writer, service: Service) -> DefaultSecret:
    """Return the secret that signs the webhooks to jobs' own `webhook_url`."""
    response.headers["Cache-Control"] = "no-store"
    return default_secret_object(await service.default_secrets(caller.tenant), service.now())


@router.post("/default/rotate-secret", responses=problem_responses(_E.WEBHOOK_CHANGED))
async def rotate_default_secret(
    response: Response, caller: Writer, service: Service, body: Rotation | None = None
) -> DefaultSecret:
    """Create a new secret for the webhooks to jobs' own `webhook_url`; the old one signs too for `overlap_s`."""
    overlap = timedelta(seconds=(body or Rotation()).overlap_s)
    response.headers["Cache-Control"] = "no-store"
    return default_secret_object(await service.rotate_default(caller.tenant, overlap), service.now())


@router.get("/{webhook_id}", responses=problem_responses(_E.WEBHOOK_NOT_FOUND), summary="Read an endpoint")
async def get_webhook(caller: Reader, service: Service, webhook_id: WebhookId) -> WebhookObject:
    """Return an endpoint."""
    return endpoint_object(service.get(caller.tenant, webhook_id), service)


@router.get(
    "/{webhook_id}/keys",
    responses=problem_responses(_E.WEBHOOK_NOT_FOUND),
    summary="Public keys of an endpoint's v1a signatures",
)
async def get_public_keys(service: Service, webhook_id: WebhookId) -> PublicKeys:
    """Return the public keys that verify this endpoint's `v1a` signatures, the newest first; needs no API key."""
    return PublicKeys.of(service.public_keys(webhook_id))


@router.patch(
    "/{webhook_id}",
    responses=problem_responses(_E.WEBHOOK_NOT_FOUND, _E.WEBHOOK_CHANGED, _E.EMAIL_NOT_CONFIGURED),
    summary="Change an endpoint",
)
async def change_webhook(
    caller: Writer, service: Service, webhook_id: WebhookId, body: WebhookChanges
) -> WebhookObject:
    """Change an endpoint. One that is enabled again gets the events from then on; redeliver the ones it missed."""
    changes = {name: getattr(body, name) for name in body.model_fields_set}
    return endpoint_object(await service.change(caller.tenant, webhook_id, changes), service)


@router.delete(
    "/{webhook_id}",
    status_code=204,
    responses=problem_responses(_E.WEBHOOK_NOT_FOUND, _E.WEBHOOK_CHANGED),
    summary="Delete an endpoint",
)
async def delete_webhook(caller: Writer, service: Service, webhook_id: WebhookId) -> Response:
    """Delete an endpoint; its pending deliveries are not sent."""
    await service.delete(caller.tenant, webhook_id)
    return Response(status_code=204)


@router.post(
    "/{webhook_id}/rotate-secret",
    responses=problem_responses(_E.WEBHOOK_NOT_FOUND, _E.WEBHOOK_CHANGED),
    summary="Rotate an endpoint's secret",
)
async def rotate_secret(
    response: Response, caller: Writer, service: Service, webhook_id: WebhookId, body: Rotation | None = None
) -> WebhookWithSecret:
    """Create a new secret for an endpoint; requests are signed with the old one too for `overlap_s`."""
    overlap = timedelta(seconds=(body or Rotation()).overlap_s)
    response.headers["Cache-Control"] = "no-store"
    return endpoint_with_secret(await service.rotate(caller.tenant, webhook_id, overlap), service)
