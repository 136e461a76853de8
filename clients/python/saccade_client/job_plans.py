# Generated from async_job_plans.py by clients/python/generate_sync.py; do not edit.
"""Acts on many jobs for blocking programs: cancel or retry all that match."""

from __future__ import annotations

from typing import Any

from saccade_client.api import Api
from saccade_client.request_parts import JOB_PLANS_PATH, path_segment, without_none
from saccade_client.transport import run_blocking


class JobPlansClient:
    """Cancel or retry all jobs that match a filter, counted first: ``client.job_plans``.

    ``choice`` is any of ``workload``, ``state`` (a list), ``since``, ``until``, ``rule``, ``q`` (a text) and ``plan``.
    """

    def __init__(self, api: Api) -> None:
        """Send requests with ``api``."""
        self._api = api

    def check(self, action: str, **choice: Any) -> dict[str, Any]:
        """Return what ``cancel`` or ``retry`` of all that match would be on: ``count``, ``by_state``, ``sample``."""
        body = {"action": action, "filter": without_none(choice), "dry_run": True}
        return run_blocking(self._api.call("POST", JOB_PLANS_PATH, json=body))

    def create(
        self,
        action: str,
        expected_count: int,
        *,
        why: str | None = None,
        idempotency_key: str | None = None,
        **choice: Any,
    ) -> dict[str, Any]:
        """Order ``cancel`` or ``retry`` of all that match, if they are as many as expected; return the plan."""
        body = {"action": action, "filter": without_none(choice), "expected_count": expected_count, "why": why}
        return run_blocking(self._api.call("POST", JOB_PLANS_PATH, json=without_none(body), key=idempotency_key))

    def get(self, plan_id: str) -> dict[str, Any]:
        """Read how far a plan is; its jobs are ``client.jobs(plan=plan_id)``."""
        return run_blocking(self._api.call("GET", f"{JOB_PLANS_PATH}/{path_segment(plan_id)}"))
