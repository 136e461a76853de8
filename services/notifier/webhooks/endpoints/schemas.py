"""Schemas of webhook endpoints in requests and answers."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, Field, field_validator

import contracts.events  # noqa: F401 - registers every event type
from contracts.events.base import DURABLE, EVENT_CLASSES
from contracts.events.job import JobProgressed
from kit.http.request_body import RequestBody
from kit.network.urls import URL_CHARS, URL_PATTERN
from services.notifier.webhooks.endpoints.email_addresses import MAILTO_PATTERN
from services.notifier.webhooks.endpoints.endpoint import Endpoint, EndpointSecret
from services.notifier.webhooks.endpoints.endpoint_service import MAX_OVERLAP, EndpointService
from services.notifier.webhooks.endpoints.headers import HEADERS_SCHEMA, check_headers
from services.notifier.webhooks.endpoints.quiet_hours import QuietHours
from services.notifier.webhooks.messages.formats import Format
from services.notifier.webhooks.messages.template import (
    SUBJECT_TEMPLATE_CHARS,
    TEMPLATE_CHARS,
    parse_template,
    template_pattern,
)
from services.notifier.webhooks.messages.values import NAMES
from services.notifier.webhooks.signing import EndpointKeyPair, Signing

_DAY_S: Final = 86_400


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


def _template_schema(longest: int) -> dict[str, Any]:
    text = {"type": "string", "minLength": 1, "maxLength": longest, "pattern": template_pattern(NAMES)}
    return {"anyOf": [text, {"type": "null"}]}


Url = Annotated[
    str,
    Field(
        min_length=1,
        max_length=URL_CHARS,
        description="https, where the operator does not allow http, and a public host in its usual form. No user name, "
        "fragment or port of another protocol. With the format `email`: `mailto:` and one to five addresses, with "
        "commas.",
        examples=["https://example.com/hooks/saccade"],
        json_schema_extra={"pattern": f"{URL_PATTERN}|{MAILTO_PATTERN}"},
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
        ge=0.00001,
        le=1000,
        allow_inf_nan=False,
        description="Maximum requests per second, also less than one; null: no limit.",
    ),
]
Ordered = Annotated[
    bool, Field(description="Strict order: the next event of a job waits until the one before is delivered.")
]
Signatures = Annotated[
    Signing,
    Field(description="`v1`: HMAC with the secret; `v1a`: Ed25519, verified with GET /v1/webhooks/{webhook_id}/keys."),
]


BodyFormat = Annotated[
    Format,
    Field(
        description='`cloudevents`: the event itself. A sentence about it: `poke` (`{"message"}`), `slack` '
        '(`{"text"}`, also Mattermost and Discord), `text` (plain, also ntfy), `email` (to a `mailto:` URL).'
    ),
]
Template = Annotated[
    str | None,
    Field(
        min_length=1,
        max_length=TEMPLATE_CHARS,
        description="Text of its messages with values of the event, such as `{{job.title}} failed: {{error.message}}`; "
        "docs/messages.md lists the names. Null: a sentence about the event.",
        examples=["{{job.title}} failed: {{error.message}}"],
        json_schema_extra=_template_schema(TEMPLATE_CHARS),
    ),
]
SubjectTemplate = Annotated[
    str | None,
    Field(
        min_length=1,
        max_length=SUBJECT_TEMPLATE_CHARS,
        description="Subject of its e-mails, with the same values as `template`.",
        examples=["{{job.title}} failed"],
        json_schema_extra=_template_schema(SUBJECT_TEMPLATE_CHARS),
    ),
]
Quiet = Annotated[QuietHours | None, Field(description="Daily time without requests; they are sent afterwards.")]


class WebhookChanges(RequestBody):
    """Fields of an endpoint to change; omitted fields keep their value."""

    url: Url = ""
    types: Types = ()
    description: Description = ""
    headers: Headers = Field(default_factory=dict)
    rate_per_s: Rate = None
    ordered: Ordered = False
    signing: Signatures = "v1"
    format: BodyFormat = "cloudevents"
    quiet_hours: Quiet = None
    template: Template = None
    subject: SubjectTemplate = None
    enabled: bool = True

    @field_validator("template", "subject")
    @classmethod
    def _templates(cls, value: str | None) -> str | None:
        if value is not None:
            parse_template(value, NAMES)
        return value

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
    format: Format
    quiet_hours: QuietHours | None
    template: str | None
    subject: str | None
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


def default_secret_object(secrets: tuple[EndpointSecret, ...], now: datetime) -> DefaultSecret:
    """Return the newest of the default secrets, and until when the others sign too."""
    newest = secrets[0].secret.get_secret_value()
    return DefaultSecret(secret=newest, previous_secrets_expire_at=_expiring(secrets, now))


def endpoint_with_secret(endpoint: Endpoint, service: EndpointService) -> WebhookWithSecret:
    """Return an endpoint's public fields and its newest secret."""
    secret = endpoint.secrets[0].secret.get_secret_value()
    return WebhookWithSecret.model_validate(WebhookObject.of(endpoint, service) | {"secret": secret})


def endpoint_object(endpoint: Endpoint, service: EndpointService) -> WebhookObject:
    """Return an endpoint's public fields."""
    return WebhookObject.model_validate(WebhookObject.of(endpoint, service))
