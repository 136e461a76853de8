"""Request of a Convex site for the analysis of one video, in both dialects of the replaced system. Pure."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Final, Literal

from pydantic import ConfigDict, Field

from contracts.callback import PLAN_SUFFIX, Dialect
from contracts.errors import ErrorCode, SaccadeError
from kit.http.request_body import RequestBody
from kit.network.address_guard import AddressGuard
from kit.network.urls import CheckedUrl, parse_url, refusal_of
from services.gateway.jobs.submission import JobRequest

WORKLOAD: Final = "badminton"
_OPENED_BY: Final = "replaced_badminton_endpoint"


class VideoRequest(RequestBody):
    """Body of ``POST /process``; a field that is not known here is a newer client's and ignored."""

    model_config = ConfigDict(extra="ignore")

    videoId: str = Field(min_length=1, max_length=128)  # noqa: N815 - the client's names
    videoUrl: str = Field(min_length=1)  # noqa: N815
    callbackUrl: str | None = None  # noqa: N815
    manualCourtKeypoints: dict[str, Any] | None = None  # noqa: N815
    analysisMode: Literal["full", "rally_only"] | None = None  # noqa: N815

    @property
    def params(self) -> dict[str, Any]:
        """Parameters of the job."""
        points = {name: point for name, point in (self.manualCourtKeypoints or {}).items() if point is not None}
        return {"mode": self.analysisMode or "full", "court_keypoints": points or None, "video_id": self.videoId}


@dataclass(frozen=True)
class CallbackSite:
    """Site to which the results of a video go."""

    url: str
    dialect: Dialect
    origin: str

    def fingerprint(self, request: VideoRequest) -> str:
        """Return the hash of what a request asks for; the video's URL is signed anew each time and does not count."""
        asked = json.dumps([self.url, self.dialect, request.params], sort_keys=True)
        return hashlib.sha256(asked.encode()).hexdigest()

    def job_request(self, request: VideoRequest) -> JobRequest:
        """Return the job of a request. Its metadata is public, so of the site it has the origin only."""
        return JobRequest(
            workload=WORKLOAD,
            inputs={"video": {"url": request.videoUrl}},
            params=request.params,
            metadata={"opened_by": _OPENED_BY, "videoId": request.videoId, "callbackUrl": self.origin},
        )


def callback_site(url: str | None, *, guard: AddressGuard, https_only: bool) -> CallbackSite:
    """Return the site of a ``callbackUrl``, whose end tells the dialect.

    Raises:
        SaccadeError: INVALID_PARAMETER, for a URL that is missing, not valid or not allowed.
    """
    if not url:
        raise _invalid("it is missing.", "Send the URL of your Convex site, or set CONVEX_SITE_URL on this server.")
    try:
        parsed = parse_url(url)
    except ValueError as error:
        raise _invalid(str(error), "Send a URL like https://your-deployment.convex.site.") from None
    if "?" in url:
        raise _invalid("it has a query, to which no route can be appended.", "Leave the query out.")
    if https_only and parsed.scheme != "https":
        raise _invalid("http is not encrypted.", "Send a URL that begins with https://.")
    if why := refusal_of(parsed, guard):
        hint = "Send a public address, or have the operator add its network to NOTIFIER_WEBHOOK_ALLOWED_NETWORKS."
        raise _invalid(f"{parsed.host} is not an address that callbacks may go to ({why}).", hint)
    return _site(parsed, url.rstrip("/"))


def _site(parsed: CheckedUrl, url: str) -> CallbackSite:
    root = url.removesuffix(PLAN_SUFFIX)
    return CallbackSite(root, "site" if root == url else "plan", parsed.origin)


def _invalid(message: str, hint: str) -> SaccadeError:
    return SaccadeError(ErrorCode.INVALID_PARAMETER, f"callbackUrl: {message}", hint=hint)
