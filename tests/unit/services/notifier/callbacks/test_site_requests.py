"""Bodies and paths of both dialects, checked by the validators of a site; and the checks of its answers."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from contracts.callback import Callback, Dialect, callback_subject
from services.notifier.callbacks.result_figures import SummaryError, figures_of
from services.notifier.callbacks.site_requests import (
    RESULTS_FILE,
    VIDEO_FILE,
    AnswerError,
    LogEntry,
    artifacts_to_store,
    check_confirmation,
    log_request,
    results_request,
    status_request,
    storage_id_of,
    upload_url_of,
    upload_url_request,
    urls_of,
)
from tests.harness.callbacks.convex_site import META, META_OPTIONAL, PLAN, check
from tests.harness.callbacks.running_callbacks import PLAYERS, RESULT, SUMMARY


def _callback(dialect: Dialect = "site", **stored: str) -> Callback:
    return Callback(
        tenant="local",
        video_id="k57abc",
        site_url="https://x.convex.site",
        dialect=dialect,
        generation=1,
        fingerprint="f",
        job_id="job_1",
        accepted_at=datetime.now(UTC),
        stored=stored,
    )


def test_a_status_has_no_null_and_only_the_keys_of_its_dialect() -> None:
    full: dict[str, Any] = {"progress": 12.5, "frame": 3, "frame_count": 9, "error": "e"}
    site = status_request(_callback(), "processing", **full)
    assert site.body == {
        "videoId": "k57abc",
        "status": "processing",
        "progress": 12.5,
        "currentFrame": 3,
        "totalFrames": 9,
        "error": "e",
    }
    plan = status_request(_callback("plan"), "failed", **full)
    assert plan.body == {"videoId": "k57abc", "status": "failed", "progress": 12.5, "error": "e"}
    for dialect in ("site", "plan"):
        assert status_request(_callback(dialect), "failed").body == {"videoId": "k57abc", "status": "failed"}
    assert len(json.dumps(status_request(_callback(), "failed", error="x" * 9999).body)) < 2000


def test_paths_of_the_plan_are_tried_below_its_callback_and_at_the_root() -> None:
    site, plan = _callback(), _callback("plan")
    root = "https://x.convex.site"
    assert urls_of(site, upload_url_request(site)) == (f"{root}/generateUploadUrl",)
    assert upload_url_request(site).encoded() == b"{}"
    assert upload_url_request(plan).encoded() == b""
    assert urls_of(plan, upload_url_request(plan)) == (
        f"{root}/updateResults/generateUploadUrl",
        f"{root}/generateUploadUrl",
    )
    for callback in (_callback(**{RESULTS_FILE: "a"}), plan):
        assert urls_of(callback, results_request(callback, {})) == (f"{root}/updateResults",)
    assert (artifacts_to_store(site), artifacts_to_store(plan)) == ((RESULTS_FILE, VIDEO_FILE), (VIDEO_FILE,))


@pytest.mark.parametrize(("video", "expected"), [("kgv", {"processedVideoStorageId": "kgv"}), ("", {})])
def test_results_have_exactly_the_keys_of_the_validators(video: str, expected: dict[str, str]) -> None:
    summary = json.dumps(SUMMARY | {"hasShuttleAnalytics": None, "secret": 1}).encode()
    meta = figures_of("site", summary, RESULT)
    check(meta, META, META_OPTIONAL)
    site = results_request(_callback(**{RESULTS_FILE: "kgr", VIDEO_FILE: video}), meta)
    assert site.body == {"videoId": "k57abc", "resultsMeta": meta, "resultsStorageId": "kgr", **expected}
    results = figures_of("plan", summary, RESULT)
    check(results, PLAN | {"players": (list,)}, {"shuttle": (object,), "courtDetection": (object,)})
    plan = results_request(_callback("plan", **{VIDEO_FILE: video}), results)
    assert plan.body == {"videoId": "k57abc", "results": results, **expected}


@pytest.mark.parametrize(
    "summary", [b"", b"[]", b"{", *(json.dumps(SUMMARY | {"fps": bad}).encode() for bad in ("30", True, float("inf")))]
)
@pytest.mark.parametrize("dialect", ["site", "plan"])
def test_a_summary_without_a_required_number_is_refused(summary: bytes, dialect: Dialect) -> None:
    with pytest.raises(SummaryError, match="compat/summary"):
        figures_of(dialect, summary, {})


def test_an_unknown_number_is_zero_where_the_site_requires_one_and_absent_where_it_does_not() -> None:
    summary = json.dumps(SUMMARY | {"duration": None, "rallyCount": None}).encode()
    meta = figures_of("site", summary, {})
    assert meta["duration"] == 0
    assert "rally_count" not in meta
    assert figures_of("plan", json.dumps(SUMMARY).encode(), RESULT)["players"] == PLAYERS


def test_an_entry_of_the_log_has_all_four_keys() -> None:
    body = log_request(_callback(), LogEntry("done", "success", "court")).body
    assert body == {"videoId": "k57abc", "message": "done", "level": "success", "category": "court"}


#: Half a surrogate pair, which cannot be stored.
LONE = b'{"storageId": "\\ud800"}'


def test_answers_are_checked() -> None:
    check_confirmation(b'{"success": true, "more": 1}')
    assert upload_url_of(b'{"uploadUrl": "https://a/b"}') == upload_url_of(b'"https://a/b"') == "https://a/b"
    assert storage_id_of(b'{"storageId": "kg1"}') == "kg1"
    deep = b"[" * 5000
    for bad in (
        b"",
        b"null",
        b"[]",
        b"<html>",
        b'"x"',
        b'{"success": "true"}',
        b'{"storageId": 5}',
        b"\xff",
        deep,
        LONE,
    ):
        with pytest.raises(AnswerError):
            check_confirmation(bad)
        with pytest.raises(AnswerError):
            storage_id_of(bad)
    for bad in (b"", b"null", b"[]", b"{}", b'""', b'{"uploadUrl": null}', b'"http://[::1"', b'"x"', deep):
        with pytest.raises(AnswerError):
            upload_url_of(bad)


def test_the_subject_of_a_callback_has_one_token_per_video_whatever_its_id() -> None:
    ids = ["a", "A", "a.b", "*", ">", " ", "ä" * 100, ""]
    subjects = {callback_subject("acme", video_id) for video_id in ids}
    assert len(subjects) == len(ids)
    assert all(subject.count(".") == 3 and not set(subject) & set("*> ") for subject in subjects)
