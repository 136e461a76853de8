"""Dry runs of rules with groups: the jobs that the dispatcher would have made, and the days that they count for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from contracts.cost_estimate import CostEstimate
from contracts.events.rule import RuleGroup
from contracts.upload import Upload
from services.gateway.aggregates.view import GatewayView
from services.gateway.rules.trial import RuleTrials
from tests.harness.rules.rule_events import EPOCH, TENANT, definition, upload

FREE = CostEstimate(device="cpu", seconds=1, usd=0, basis="spec", runs=0)
HOUR_S, DAY_S = 3600.0, 86_400.0
#: Of the first upload: long ago by any clock.
FIRST_S = -100 * DAY_S


def outcomes(uploads: Sequence[Upload], **fields: Any) -> list[str]:
    view = GatewayView(None)
    try:
        for each in uploads:
            view.keep_upload(each)
        rule = definition(**fields)
        jobs = RuleTrials(view).run(TENANT, rule, FREE, rule_id=None, since=None, limit=100).jobs
    finally:
        view.close()
    return ["waiting" if job.waiting else str(job.error.code) if job.error else "submitted" for job in jobs]


def test_a_group_that_lacked_uploads_for_a_week_is_skipped() -> None:
    laps = [upload(f"{day}.mp4", "video", at_s=FIRST_S + day * DAY_S) for day in (0, 10)]
    pair = RuleGroup(needs=2)
    assert outcomes(laps, workload_name="lap_compare", group=pair) == ["missing_input", "missing_input"]


def test_a_job_counts_on_the_day_on_which_its_group_is_closed() -> None:
    """Both groups get their uploads on one day, and the second is closed on the next."""
    photos = [upload(f"{hour}.jpg", at_s=FIRST_S + hour * HOUR_S) for hour in (0, 10)]
    group = RuleGroup(quiet_s=5 * HOUR_S)
    assert EPOCH.hour == 10
    assert outcomes(photos, workload_name="nerf", group=group, jobs_per_day=1) == ["submitted", "submitted"]
    group = RuleGroup(quiet_s=HOUR_S)
    assert outcomes(photos, workload_name="nerf", group=group, jobs_per_day=1) == ["submitted", "rule_limit_reached"]
