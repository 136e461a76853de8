"""Requests of Convex sites: fields, the dialect that the callback tells, and whether a request starts a run."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from contracts.callback import Callback
from contracts.errors import SaccadeError
from contracts.job import State
from kit.http.request_body import parse_body
from kit.network.address_guard import AddressGuard
from services.gateway.compat.badminton_endpoint.run_decision import Decision, decide
from services.gateway.compat.badminton_endpoint.video_request import CallbackSite, VideoRequest, callback_site

PUBLIC = AddressGuard()
CORNERS = {"top_left": [0, 0], "top_right": [9, 0], "bottom_right": [9, 9], "bottom_left": [0, 9]}
BODY: dict[str, Any] = {
    "videoId": "k57",
    "videoUrl": "https://x.convex.cloud/api/storage/1?token=a",
    "callbackUrl": "https://x.convex.site",
    "manualCourtKeypoints": None,
    "analysisMode": "full",
}


def request(**changes: Any) -> VideoRequest:
    body = {name: value for name, value in (BODY | changes).items() if value is not ...}
    return parse_body(VideoRequest, json.dumps(body).encode())


def site(url: str = "https://x.convex.site", *, https_only: bool = True) -> CallbackSite:
    return callback_site(url, guard=PUBLIC, https_only=https_only)


def test_a_request_becomes_a_job_with_the_parameters_of_the_workload() -> None:
    points = CORNERS | {"net_left": None}
    job = site().job_request(request(manualCourtKeypoints=points, analysisMode="rally_only", modelSize="m"))
    assert (job.workload, job.inputs) == ("badminton", {"video": {"url": BODY["videoUrl"]}})
    assert job.params == {"mode": "rally_only", "court_keypoints": CORNERS, "video_id": "k57"}
    assert job.metadata == {
        "opened_by": "replaced_badminton_endpoint",
        "videoId": "k57",
        "callbackUrl": "https://x.convex.site:443",
    }
    plain = site().job_request(request(manualCourtKeypoints=..., analysisMode=...))
    assert plain.params == {"mode": "full", "court_keypoints": None, "video_id": "k57"}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"videoId": ...}, "videoId"),
        ({"videoId": ""}, "videoId"),
        ({"videoId": "x" * 129}, "videoId"),
        ({"videoId": 5}, "videoId"),
        ({"videoUrl": ...}, "videoUrl"),
        ({"videoUrl": None}, "videoUrl"),
        ({"callbackUrl": 5}, "callbackUrl"),
        ({"manualCourtKeypoints": []}, "manualCourtKeypoints"),
        ({"analysisMode": "fast"}, "analysisMode"),
    ],
)
def test_a_missing_or_wrong_field_is_named(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(SaccadeError, match=named):
        request(**changes)


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"{", b"\xff"])
def test_what_is_no_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(SaccadeError):
        parse_body(VideoRequest, body)


@pytest.mark.parametrize(
    ("url", "root", "dialect"),
    [
        ("https://x.convex.site", "https://x.convex.site", "site"),
        ("https://x.convex.site/", "https://x.convex.site", "site"),
        ("https://x.convex.site/updateResults", "https://x.convex.site", "plan"),
        ("https://x.convex.site/updateResults/", "https://x.convex.site", "plan"),
        ("https://self.example.org/convex", "https://self.example.org/convex", "site"),
    ],
)
def test_the_end_of_the_callback_tells_the_dialect(url: str, root: str, dialect: str) -> None:
    found = site(url)
    assert (found.url, found.dialect) == (root, dialect)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("", "missing"),
        ("ftp://x.convex.site", "does not begin"),
        ("http://x.convex.site", "not encrypted"),
        ("https://user:word@x.convex.site", "password"),
        ("https://x.convex.site?token=a", "query"),
        ("https://127.0.0.1", "loopback"),
        ("https://169.254.169.254/updateResults", "metadata"),
        ("https://localhost", "internal"),
        ("https://x.convex.site#a", "fragment"),
    ],
)
def test_a_callback_that_is_no_url_or_not_public_is_refused(url: str, why: str) -> None:
    with pytest.raises(SaccadeError, match=f"callbackUrl: .*{why}"):
        site(url)


def test_an_allowed_network_may_be_called_back_without_tls() -> None:
    allowed = AddressGuard.allowing(["127.0.0.0/8"])
    assert callback_site("http://127.0.0.1:8080", guard=allowed, https_only=False).url == "http://127.0.0.1:8080"


def test_another_signature_of_the_videos_url_is_the_same_request_and_another_mode_is_not() -> None:
    same = site().fingerprint(request())
    assert site().fingerprint(request(videoUrl="https://x.convex.cloud/api/storage/1?token=b")) == same
    assert site().fingerprint(request(analysisMode=None, manualCourtKeypoints={})) == same
    others = [
        site().fingerprint(request(analysisMode="rally_only")),
        site().fingerprint(request(manualCourtKeypoints=CORNERS)),
        site("https://x.convex.site/updateResults").fingerprint(request()),
        site("https://y.convex.site").fingerprint(request()),
    ]
    assert len({same, *others}) == 5


def record(outcome: Any = None) -> Callback:
    return Callback(
        tenant="local",
        video_id="k57",
        site_url="https://x.convex.site",
        dialect="site",
        generation=1,
        fingerprint="f",
        job_id="job_1",
        accepted_at=datetime.now(UTC),
        outcome=outcome,
    )


@pytest.mark.parametrize(
    ("outcome", "state", "decision"),
    [
        (None, None, Decision.CONTINUE),
        (None, State.RUNNING, Decision.CONTINUE),
        (None, State.RETRYING, Decision.CONTINUE),
        (None, State.SUCCEEDED, Decision.CONTINUE),
        (None, State.FAILED, Decision.NEW),
        (None, State.CANCELLED, Decision.NEW),
        ("completed", State.SUCCEEDED, Decision.DELIVER_AGAIN),
        ("abandoned", State.SUCCEEDED, Decision.DELIVER_AGAIN),
        ("failed", State.SUCCEEDED, Decision.DELIVER_AGAIN),
        ("failed", State.FAILED, Decision.NEW),
        ("failed", State.RUNNING, Decision.DELIVER_AGAIN),
        ("failed", None, Decision.NEW),
    ],
)
def test_a_request_starts_a_run_only_where_there_is_none_that_goes_on_or_has_succeeded(
    outcome: Any, state: State | None, decision: Decision
) -> None:
    assert decide(record(outcome), "f", state, fetch_failed=False) is decision
    assert decide(record(outcome), "f", None, fetch_failed=True) is Decision.NEW
    assert decide(record(outcome), "other", state, fetch_failed=False) is Decision.NEW
    assert decide(None, "f", None, fetch_failed=False) is Decision.NEW
