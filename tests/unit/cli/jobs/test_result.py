"""What is shown of a job that has ended: headline, inputs, report; and the browser that shows the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from saccade_client import JobView

from cli.browser import has_browser, how_to_view, open_in_browser
from cli.jobs.result import inputs_text, outcome_text, result_lines


def job(**changed: Any) -> JobView:
    fields = {
        "id": "job_1",
        "workload": "lap_compare",
        "state": "succeeded",
        "created_at": "2026-01-02T03:04:05Z",
        "headline": "B is 0.65 s faster ± 0.16 s",
        "report": "/v1/jobs/job_1/artifacts/report.html",
        "inputs": {"reference": [{"filename": "a.mp4"}], "other": [{"filename": "b.mp4"}]},
    }
    return JobView.model_validate(fields | changed)


def test_a_succeeded_job_shows_what_it_made_of_which_files_and_where() -> None:
    assert result_lines(job(), "http://here") == {
        "result": "B is 0.65 s faster ± 0.16 s",
        "inputs": "reference a.mp4 · other b.mp4",
        "report": "http://here/v1/jobs/job_1/artifacts/report.html",
        "open": "saccade open job_1",
        "files": "saccade artifacts job_1 --download DIR",
    }
    assert "report" not in result_lines(job(report=None), "http://here")
    assert result_lines(job(state="running"), "http://here") == {}


def test_many_files_are_counted() -> None:
    photos = [{"filename": f"{number}.jpg"} for number in range(40)]
    assert inputs_text(job(inputs={"photos": photos, "masks": []})) == "photos 0.jpg, 1.jpg, 2.jpg and 37 more"


def test_a_list_shows_the_headline_or_why_there_is_none() -> None:
    error = {"code": "clip_static", "message": "Nothing moves."}
    assert outcome_text(job()) == "B is 0.65 s faster ± 0.16 s"
    assert outcome_text(job(state="failed", headline=None, error=error)) == "clip_static"
    assert outcome_text(job(state="running", headline=None)) == ""


def test_a_page_opens_in_the_browser_that_the_user_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    page = "http://127.0.0.1:8080/sessions/ses_1"
    assert not has_browser()
    assert not open_in_browser(page)
    assert "ssh -L 8080:127.0.0.1:8080" in how_to_view(page)
    monkeypatch.setenv("DISPLAY", ":0")
    assert has_browser()
