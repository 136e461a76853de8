"""Route of links that show the page of webhooks inside the page of another system (docs/console.md)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from contracts.errors import ErrorCode, SaccadeError
from kit.auth.api_keys import Authenticator
from kit.auth.portal_link import LONGEST, SHORTEST, PortalAccess
from kit.auth.principal import Writer
from kit.http.app_state import from_app_state
from kit.http.problems import problem_responses
from services.gateway.page_bundle import ConsoleSettingsDep

router = APIRouter(prefix="/v1/portal-links", tags=["service"])

_DEFAULT_S: Final = 15 * 60


class PortalLinkRequest(BaseModel):
    """Access and duration of a link."""

    model_config = ConfigDict(extra="forbid")

    access: PortalAccess = Field(
        default="read", description="`write`: endpoints can be changed, and events sent again."
    )
    expires_in_s: int = Field(
        default=_DEFAULT_S, ge=int(SHORTEST.total_seconds()), le=int(LONGEST.total_seconds()), description="Seconds."
    )


class PortalLinkObject(BaseModel):
    """A link to the page of webhooks."""

    path: str = Field(description="Address for a frame, from this server's origin. Its fragment is the secret part.")
    access: PortalAccess
    expires_at: datetime


@router.post(
    "",
    status_code=201,
    summary="Create a link to the page of webhooks, for a frame in another page",
    responses=problem_responses(ErrorCode.EMBEDDING_NOT_CONFIGURED),
)
async def create_portal_link(
    wanted: PortalLinkRequest,
    response: Response,
    principal: Writer,
    authenticator: Annotated[Authenticator, from_app_state("authenticator")],
    settings: ConsoleSettingsDep,
) -> PortalLinkObject:
    """Return a link that opens the webhooks of the key's tenant and nothing else; it ends early with its key.

    Nothing is stored: a link ends early only with its key, so let it last no longer than a visit.
    """
    response.headers["Cache-Control"] = "no-store"
    # Without a key that notifier and gateway share, the notifier could not verify it.
    if not (settings.embed_origins and authenticator.authenticated and authenticator.portal_links.is_configured):
        raise SaccadeError(ErrorCode.EMBEDDING_NOT_CONFIGURED)
    expires_at = (datetime.now(UTC) + timedelta(seconds=wanted.expires_in_s)).replace(microsecond=0)
    token = authenticator.portal_links.issue(principal, wanted.access, expires_at)
    path = f"{settings.public_path}console/webhooks?embed=1#portal={token}"
    return PortalLinkObject(path=path, access=wanted.access, expires_at=expires_at)
