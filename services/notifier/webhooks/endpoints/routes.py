"""Routes of webhook endpoints."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Path, Request, Response
from pydantic import BaseModel, ConfigDict, Field, StrictBool, field_validator

import contracts.events  # noqa: F401 - registers every event type
from contracts.errors import ErrorCode, SaccadeError
from contracts.events.base import DURABLE, EVENT_CLASSES
from contracts.events.job import JobProgressed
from kit.auth.principal import Reader, Writer
from kit.bus.idempotency import IdempotencyHeader, key_of
from kit.http.problems import problem_responses
from services.notifier.webhooks.endpoints.endpoint import Endpoint, EndpointSecret
from services.notifier.webhooks.endpoints.endpoint_service import LONGEST_OVERLAP, Desk
from services.notifier.webhooks.sending.sender import is_reserved_header
from services.notifier.webhooks.sending.signing import Signing

router = APIRouter(prefix="/v1/webhooks", tags=["webhooks"])

_E = ErrorCode
_DAY_S: Final = 86_400
_HEADER_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")
_HEADER_VALUE: Final = re.compile(r"[\x21-\x7e]([\x20-\x7e]{0,1022}[\x21-\x7e])?")
_EXAMPLE_ID: Final = "whk_0198c0de-0000-7000-8000-000000000003"


def desk_of(request: Request) -> Desk:
    """Give what the routes work with.

    Raises:
        SaccadeError: WEBHOOKS_NOT_CONFIGURED.
    """
    desk: Desk | None = request.app.state.desk
    if desk is None:
        raise SaccadeError(ErrorCode.WEBHOOKS_NOT_CONFIGURED)
    return desk


EndpointId = Annotated[str, Path(max_length=100, examples=[_EXAMPLE_ID])]


def subscribable() -> list[str]:
    """List the event types that an endpoint can ask for."""
    ours = (name for name, event in EVENT_CLASSES.items() if event.kind == DURABLE)
    return sorted({*ours, JobProgressed.type})


def _check_types(types: tuple[str, ...]) -> tuple[str, ...]:
    known = set(subscribable())
    known |= {f"{name.partition('.')[0]}.*" for name in known}
    for name in types:
        if name not in known:
            raise ValueError(
                f"{name[:80]!r} is not an event type; GET /asyncapi.json lists them, job.* means all of jobs"
            )
    return tuple(dict.fromkeys(types))


def _check_headers(headers: dict[str, str]) -> dict[str, str]:
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name):
            raise ValueError(f"{name[:80]!r} is not the name of a header")
        if is_reserved_header(name):
            raise ValueError(f"{name}: this header is ours to set")
        if not _HEADER_VALUE.fullmatch(value):
            raise ValueError(f"{name}: a value is 1 to 1024 printable ASCII characters, without spaces at its ends")
    if len({name.lower() for name in headers}) < len(headers):
        raise ValueError("a header is there twice")
    return headers


Url = Annotated[str, Field(min_length=1, max_length=2048, examples=["https://example.com/hooks/saccade"])]
Types = Annotated[
    tuple[str, ...],
    Field(max_length=50, description="Event types, or `job.*`; none: all events.", examples=[["job.succeeded"]]),
]
Description = Annotated[str, Field(max_length=500)]
Headers = Annotated[
    dict[str, str], Field(max_length=20, description="Sent with each request. They are not shown again.", examples=[{}])
]
Rate = Annotated[
    float | None,
    Field(
        strict=True,
        ge=0.01,
        le=1000,
        allow_inf_nan=False,
        description="At most so many requests a second; null: no limit.",
    ),
]
Ordered = Annotated[
    StrictBool, Field(description="Strictly one event of a job after the other: the next waits until one is delivered.")
]
Signatures = Annotated[
    Signing, Field(description="`v1`: HMAC with the secret; `v1a`: Ed25519, checked by GET /v1/webhooks/keys.")
]


class WebhookChanges(BaseModel):
    """What is to be changed; what is left out stays."""

    model_config = ConfigDict(extra="forbid")

    url: Url = ""
    types: Types = ()
    description: Description = ""
    headers: Headers = Field(default_factory=dict)
    rate_per_s: Rate = None
    ordered: Ordered = False
    signing: Signatures = "v1"
    enabled: StrictBool = True

    @field_validator("types")
    @classmethod
    def _types(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return _check_types(value)

    @field_validator("headers")
    @classmethod
    def _headers(cls, value: dict[str, str]) -> dict[str, str]:
        return _check_headers(value)


class NewWebhook(WebhookChanges):
    """Where webhooks are to go."""

    url: Url


class Rotation(BaseModel):
    """For how long the secrets before the new one are to sign too."""

    model_config = ConfigDict(extra="forbid")

    overlap_s: float = Field(strict=True, default=_DAY_S, ge=0, le=LONGEST_OVERLAP.total_seconds(), allow_inf_nan=False)


class WebhookObject(BaseModel):
    """An endpoint. Its secret is shown when it is made or rotated, and never again."""

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
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, endpoint: Endpoint, now: datetime) -> dict[str, Any]:
        """Write an endpoint's fields."""
        plain = {name: getattr(endpoint, name) for name in cls.model_fields if hasattr(endpoint, name)}
        return plain | {
            "header_names": sorted(endpoint.headers),
            "previous_secrets_expire_at": _expiring(endpoint.secrets, now),
        }


class WebhookWithSecret(WebhookObject):
    """An endpoint with the secret that signs from now on."""

    secret: str = Field(description="`whsec_…`: keep it, it is not shown again.")


class WebhookPage(BaseModel):
    """All endpoints."""

    data: list[WebhookObject]
    next_cursor: None = None


class DefaultSecret(BaseModel):
    """What the webhooks of jobs' own `webhook_url` are signed with."""

    secret: str
    previous_secrets_expire_at: list[datetime]


class PublicKey(BaseModel):
    """A key of `v1a` signatures as JSON Web Key, and as Standard Webhooks writes it."""

    kty: Literal["OKP"]
    crv: Literal["Ed25519"]
    x: str
    kid: str
    use: str
    alg: str
    whpk: str


class PublicKeys(BaseModel):
    """A JSON Web Key Set (RFC 7517)."""

    keys: list[PublicKey]


class TestAnswer(BaseModel):
    """What the endpoint answered to an example."""

    delivered: bool
    status: int | None
    error: str | None
    latency_ms: float
    response_excerpt: str


def _expiring(secrets: tuple[EndpointSecret, ...], now: datetime) -> list[datetime]:
    return [one.expires_at for one in secrets if one.expires_at is not None and one.expires_at > now]


def _default(secrets: tuple[EndpointSecret, ...], now: datetime) -> DefaultSecret:
    newest = secrets[0].secret.get_secret_value()
    return DefaultSecret(secret=newest, previous_secrets_expire_at=_expiring(secrets, now))


def _with_secret(endpoint: Endpoint, now: datetime) -> WebhookWithSecret:
    secret = endpoint.secrets[0].secret.get_secret_value()
    return WebhookWithSecret.model_validate(WebhookObject.of(endpoint, now) | {"secret": secret})


def _shown(endpoint: Endpoint, now: datetime) -> WebhookObject:
    return WebhookObject.model_validate(WebhookObject.of(endpoint, now))


@router.post(
    "",
    status_code=201,
    responses=problem_responses(_E.TOO_MANY_WEBHOOKS, _E.IDEMPOTENCY_KEY_REUSED),
    summary="Make an endpoint",
)
async def create_webhook(
    request: Request, response: Response, caller: Writer, body: NewWebhook, idempotency_key: IdempotencyHeader = None
) -> WebhookWithSecret:
    """Make an endpoint; it gets what happens from now on. The answer shows its secret, once."""
    desk = desk_of(request)
    key = key_of(caller.tenant, "POST /v1/webhooks", idempotency_key, body)
    endpoint = await desk.create(caller.tenant, body.model_dump(), key)
    response.headers["Location"] = f"/v1/webhooks/{endpoint.id}"
    response.headers["Cache-Control"] = "no-store"
    return _with_secret(endpoint, desk.now())


@router.get("", summary="List your endpoints")
async def list_webhooks(request: Request, caller: Reader) -> WebhookPage:
    """List your endpoints, the oldest first."""
    desk = desk_of(request)
    return WebhookPage(data=[_shown(one, desk.now()) for one in desk.endpoints_of(caller.tenant)])


@router.get("/keys", summary="Public keys of v1a signatures")
async def get_public_keys(request: Request) -> PublicKeys:
    """Give the public keys that `v1a` signatures are checked with."""
    return PublicKeys.model_validate(desk_of(request).public_keys())


@router.get("/default/secret", summary="The secret of jobs' own webhook_url")
async def get_default_secret(request: Request, response: Response, caller: Writer) -> DefaultSecret:
    """Give the secret that the webhooks of jobs' own `webhook_url` are signed with."""
    response.headers["Cache-Control"] = "no-store"
    desk = desk_of(request)
    return _default(await desk.default_secrets(caller.tenant), desk.now())


@router.post("/default/rotate-secret", responses=problem_responses(_E.WEBHOOK_CHANGED))
async def rotate_default_secret(
    request: Request, response: Response, caller: Writer, body: Rotation | None = None
) -> DefaultSecret:
    """Sign the webhooks of jobs' own `webhook_url` with a new secret; with the old one too while `overlap_s` lasts."""
    desk = desk_of(request)
    overlap = timedelta(seconds=(body or Rotation()).overlap_s)
    response.headers["Cache-Control"] = "no-store"
    return _default(await desk.rotate_default(caller.tenant, overlap), desk.now())


@router.get("/{webhook_id}", responses=problem_responses(_E.WEBHOOK_NOT_FOUND), summary="Read an endpoint")
async def get_webhook(request: Request, caller: Reader, webhook_id: EndpointId) -> WebhookObject:
    """Read an endpoint."""
    desk = desk_of(request)
    return _shown(desk.endpoint(caller.tenant, webhook_id), desk.now())


@router.patch(
    "/{webhook_id}", responses=problem_responses(_E.WEBHOOK_NOT_FOUND, _E.WEBHOOK_CHANGED), summary="Change an endpoint"
)
async def change_webhook(
    request: Request, caller: Writer, webhook_id: EndpointId, body: WebhookChanges
) -> WebhookObject:
    """Change an endpoint. One that is enabled again gets what happens from then on; redeliver what it missed."""
    desk = desk_of(request)
    changes = body.model_dump(include=body.model_fields_set)
    return _shown(await desk.change(caller.tenant, webhook_id, changes), desk.now())


@router.delete(
    "/{webhook_id}",
    status_code=204,
    responses=problem_responses(_E.WEBHOOK_NOT_FOUND, _E.WEBHOOK_CHANGED),
    summary="Delete an endpoint",
)
async def delete_webhook(request: Request, caller: Writer, webhook_id: EndpointId) -> Response:
    """Delete an endpoint; what still waits for it is not sent."""
    await desk_of(request).delete(caller.tenant, webhook_id)
    return Response(status_code=204)


@router.post(
    "/{webhook_id}/rotate-secret",
    responses=problem_responses(_E.WEBHOOK_NOT_FOUND, _E.WEBHOOK_CHANGED),
    summary="Give an endpoint a new secret",
)
async def rotate_secret(
    request: Request, response: Response, caller: Writer, webhook_id: EndpointId, body: Rotation | None = None
) -> WebhookWithSecret:
    """Give an endpoint a new secret; requests are signed with the old one too while `overlap_s` lasts."""
    desk = desk_of(request)
    overlap = timedelta(seconds=(body or Rotation()).overlap_s)
    response.headers["Cache-Control"] = "no-store"
    return _with_secret(await desk.rotate(caller.tenant, webhook_id, overlap), desk.now())


@router.post("/{webhook_id}/test", responses=problem_responses(_E.WEBHOOK_NOT_FOUND), summary="Send an example now")
async def test_webhook(request: Request, caller: Writer, webhook_id: EndpointId) -> TestAnswer:
    """Send an example to the endpoint now, once, and say what it answered."""
    answer = await desk_of(request).test(caller.tenant, webhook_id)
    return TestAnswer(
        delivered=answer.error is None,
        status=answer.status,
        error=answer.error,
        latency_ms=answer.latency_ms,
        response_excerpt=answer.excerpt,
    )
