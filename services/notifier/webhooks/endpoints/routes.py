"""Routes of webhook endpoints: create, read, change, rotate secrets, delete."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, Field, field_validator

import contracts.events  # noqa: F401 - registers every event type
from contracts.errors import ErrorCode, SaccadeError
from contracts.events.base import DURABLE, EVENT_CLASSES
from contracts.events.job import JobProgressed
from kit.auth.principal import Reader, Writer
from kit.bus.idempotency import IdempotencyHeader, key_of
from kit.http.path_ids import WebhookId
from kit.http.problems import problem_responses
from kit.http.request_body import RequestBody
from kit.network.urls import URL_CHARS, URL_PATTERN
from services.notifier.webhooks.endpoints.endpoint import Endpoint, EndpointSecret
from services.notifier.webhooks.endpoints.endpoint_service import MAX_OVERLAP, EndpointService
from services.notifier.webhooks.endpoints.headers import HEADERS_SCHEMA, check_headers
from services.notifier.webhooks.signing import EndpointKeyPair, Signing

router = APIRouter(
    prefix="/v1/webhooks", tags=["webhooks"], responses=problem_responses(ErrorCode.WEBHOOKS_NOT_CONFIGURED)
)

_E = ErrorCode
_DAY_S: Final = 86_400


async def _service(request: Request) -> EndpointService:
    service: EndpointService | None = request.app.state.endpoint_service
    if service is None:
        raise SaccadeError(ErrorCode.WEBHOOKS_NOT_CONFIGURED)
    return service


#: Raises WEBHOOKS_NOT_CONFIGURED. The application keeps its ``endpoint_service`` in its state.
Service = Annotated[EndpointService, Depends(_service)]


def subscribable() -> list[str]:
    """Return the event types that an endpoint can subscribe to."""
    durable = (name for name, event in EVENT_CLASSES.items() if event.kind == DURABLE)
    return sorted({*durable, JobProgressed.type})


#: What an endpoint's ``types`` may hold.
_TYPES: Final = [*subscribable(), *sorted({f"{name.partition('.')[0]}.*" for name in subscribable()})]


def _check_types(types: tuple[str, ...]) -> tuple[str, ...]:
    for name in types:
        if name not in _TYPES:
            raise ValueError(
                f"{name[:80]!r} is not an event type: see GET /asyncapi.json, or write job.* for all events of jobs"
            )
    return tuple(dict.fromkeys(types))


Url = Annotated[
    str,
    Field(
        min_length=1,
        max_length=URL_CHARS,
        description="https, where the operator does not allow http, and a public host in its usual form. No user name, "
        "fragment or port of another protocol.",
        examples=["https://example.com/hooks/saccade"],
        json_schema_extra={"pattern": URL_PATTERN},
    ),
]
Types = Annotated[
    tuple[Annotated[str, Field(json_schema_extra={"enum": _TYPES})], ...],
    # An array of JSON is a list.
    Field(
        strict=False,
        max_length=50,
        description="Event types, or `job.*`; empty: all events.",
        examples=[["job.succeeded"]],
    ),
]
Description = Annotated[str, Field(max_length=500)]
Headers = Annotated[
    dict[str, str],
    Field(
        max_length=20,
        description="Sent with each request, names once in any case. They are not shown again.",
        examples=[{}],
        json_schema_extra=HEADERS_SCHEMA,
    ),
]
Rate = Annotated[
    float | None,
    Field(
        ge=0.01,
        le=1000,
        allow_inf_nan=False,
        description="Maximum requests per second; null: no limit.",
    ),
]
Ordered = Annotated[
    bool, Field(description="Strict order: the next event of a job waits until the one before is delivered.")
]
Signatures = Annotated[
    Signing,
    Field(description="`v1`: HMAC with the secret; `v1a`: Ed25519, verified with GET /v1/webhooks/{webhook_id}/keys."),
]


class WebhookChanges(RequestBody):
    """Fields of an endpoint to change; omitted fields keep their value."""

    url: Url = ""
    types: Types = ()
    description: Description = ""
    headers: Headers = Field(default_factory=dict)
    rate_per_s: Rate = None
    ordered: Ordered = False
    signing: Signatures = "v1"
    enabled: bool = True

    @field_validator("types")
    @classmethod
    def _types(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return _check_types(value)

    @field_validator("headers")
    @classmethod
    def _headers(cls, value: dict[str, str]) -> dict[str, str]:
        return check_headers(value)


class NewWebhook(WebhookChanges):
    """Fields of a new endpoint."""

    url: Url


class Rotation(RequestBody):
    """Overlap of a secret rotation: how long the earlier secrets sign too."""

    overlap_s: float = Field(default=_DAY_S, ge=0, le=MAX_OVERLAP.total_seconds(), allow_inf_nan=False)


class PublicKey(BaseModel):
    """Public key of `v1a` signatures as JSON Web Key, and in the form of Standard Webhooks."""

    kty: Literal["OKP"]
    crv: Literal["Ed25519"]
    x: str
    kid: str
    use: str
    alg: str
    whpk: str
    expires_at: datetime | None = Field(description="After a rotation: until then the earlier key signs too.")
    shared: bool = Field(
        description="Endpoints of other tenants sign with the same key: this one is older than endpoints' own keys. "
        "Rotate its secret."
    )


class PublicKeys(BaseModel):
    """A JSON Web Key Set (RFC 7517)."""

    keys: list[PublicKey]

    @classmethod
    def of(cls, keys: list[EndpointKeyPair]) -> PublicKeys:
        """Return the public keys of key pairs."""
        return cls.model_validate({"keys": [key.public() for key in keys]})


class WebhookObject(BaseModel):
    """An endpoint. Its secret is only shown when it is created or rotated."""

    id: str
    url: str
    types: list[str]
    description: str
    header_names: list[str]
    rate_per_s: float | None
    ordered: bool
    signing: Signing
    enabled: bool
    disabled_reason: str | None = Field(description="`gone` (it answered 410) or `failing` (for five days).")
    previous_secrets_expire_at: list[datetime]
    public_keys: list[PublicKey] = Field(description="They verify its `v1a` signatures, the newest first.")
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, endpoint: Endpoint, service: EndpointService) -> dict[str, Any]:
        """Return an endpoint's public fields."""
        plain = {name: getattr(endpoint, name) for name in cls.model_fields if hasattr(endpoint, name)}
        return plain | {
            "header_names": sorted(endpoint.headers),
            "previous_secrets_expire_at": _expiring(endpoint.secrets, service.now()),
            "public_keys": [key.public() for key in service.key_pairs(endpoint)],
        }


class WebhookWithSecret(WebhookObject):
    """An endpoint with its current signing secret."""

    secret: str = Field(description="`whsec_…`: store it, it is not shown again.")


class WebhookPage(BaseModel):
    """All endpoints."""

    data: list[WebhookObject]
    next_cursor: None = None


class DefaultSecret(BaseModel):
    """Signing secret of the webhooks to jobs' own `webhook_url`."""

    secret: str
    previous_secrets_expire_at: list[datetime]


def _expiring(secrets: tuple[EndpointSecret, ...], now: datetime) -> list[datetime]:
    return [secret.expires_at for secret in secrets if secret.expires_at is not None and secret.expires_at > now]


def _default_secret(secrets: tuple[EndpointSecret, ...], now: datetime) -> DefaultSecret:
    newest = secrets[0].secret.get_secret_value()
    return DefaultSecret(secret=newest, previous_secrets_expire_at=_expiring(secrets, now))


def _with_secret(endpoint: Endpoint, service: EndpointService) -> WebhookWithSecret:
    secret = endpoint.secrets[0].secret.get_secret_value()
    return WebhookWithSecret.model_validate(WebhookObject.of(endpoint, service) | {"secret": secret})


def _endpoint_object(endpoint: Endpoint, service: EndpointService) -> WebhookObject:
    return WebhookObject.model_validate(WebhookObject.of(endpoint, service))


@router.post(
    "",
    status_code=201,
    responses={
        201: {"headers": {"Location": {"schema": {"type": "string"}}}},
        **problem_responses(
            # With a key whose endpoint was deleted since.
            _E.WEBHOOK_NOT_FOUND,
            _E.TOO_MANY_WEBHOOKS,
            _E.IDEMPOTENCY_KEY_INVALID,
            _E.IDEMPOTENCY_KEY_REUSED,
        ),
    },
    summary="Create an endpoint",
)
async def create_webhook(
    response: Response, caller: Writer, service: Service, body: NewWebhook, idempotency_key: IdempotencyHeader = None
) -> WebhookWithSecret:
    """Create an endpoint; it gets the events from now on. The answer shows its secret, once."""
    key = key_of(caller.tenant, "POST /v1/webhooks", idempotency_key, body)
    endpoint = await service.create(caller.tenant, body.model_dump(), key)
    response.headers["Location"] = f"/v1/webhooks/{endpoint.id}"
    response.headers["Cache-Control"] = "no-store"
    return _with_secret(endpoint, service)


@router.get("", summary="List your endpoints")
async def list_webhooks(caller: Reader, service: Service) -> WebhookPage:
    """Return your endpoints, the oldest first."""
    return WebhookPage(data=[_endpoint_object(endpoint, service) for endpoint in service.list_endpoints(caller.tenant)])


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
    return _default_secret(await service.default_secrets(caller.tenant), service.now())


@router.post("/default/rotate-secret", responses=problem_responses(_E.WEBHOOK_CHANGED))
async def rotate_default_secret(
    response: Response, caller: Writer, service: Service, body: Rotation | None = None
) -> DefaultSecret:
    """Create a new secret for the webhooks to jobs' own `webhook_url`; the old one signs too for `overlap_s`."""
    overlap = timedelta(seconds=(body or Rotation()).overlap_s)
    response.headers["Cache-Control"] = "no-store"
    return _default_secret(await service.rotate_default(caller.tenant, overlap), service.now())


@router.get("/{webhook_id}", responses=problem_responses(_E.WEBHOOK_NOT_FOUND), summary="Read an endpoint")
async def get_webhook(caller: Reader, service: Service, webhook_id: WebhookId) -> WebhookObject:
    """Return an endpoint."""
    return _endpoint_object(service.get(caller.tenant, webhook_id), service)


@router.get(
    "/{webhook_id}/keys",
    responses=problem_responses(_E.WEBHOOK_NOT_FOUND),
    summary="Public keys of an endpoint's v1a signatures",
)
async def get_public_keys(service: Service, webhook_id: WebhookId) -> PublicKeys:
    """Return the public keys that verify this endpoint's `v1a` signatures, the newest first; needs no API key."""
    return PublicKeys.of(service.public_keys(webhook_id))


@router.patch(
    "/{webhook_id}", responses=problem_responses(_E.WEBHOOK_NOT_FOUND, _E.WEBHOOK_CHANGED), summary="Change an endpoint"
)
async def change_webhook(
    caller: Writer, service: Service, webhook_id: WebhookId, body: WebhookChanges
) -> WebhookObject:
    """Change an endpoint. One that is enabled again gets the events from then on; redeliver the ones it missed."""
    changes = body.model_dump(include=body.model_fields_set)
    return _endpoint_object(await service.change(caller.tenant, webhook_id, changes), service)


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
    return _with_secret(await service.rotate(caller.tenant, webhook_id, overlap), service)
