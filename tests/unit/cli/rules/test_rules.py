"""Rules as they are shown."""

from __future__ import annotations

import pytest
from saccade_client.views import RuleView

from cli.rules import rules


@pytest.mark.parametrize(("per_day", "shown"), [(100, "3 of 100"), (None, "3")])
def test_without_a_limit_of_jobs_none_is_shown(per_day: int | None, shown: str) -> None:
    time = "2026-11-23T07:00:00Z"
    rule = RuleView(
        id="rul_1", name="laps", workload="lap_compare", created_at=time, updated_at=time, jobs_today=3,
        jobs_per_day=per_day,
    )  # fmt: skip
    assert rules._today(rule) == shown
