"""Acts on many jobs for asyncio programs: cancel or retry all that match."""

from __future__ import annotations

from typing import Any

from saccade_client.api import Api
from saccade_client.request_parts import JOB_PLANS_PATH, path_segment, without_none


class AsyncJobPlansClient:
    """Cancel or retry all jobs that match a filter, counted first: ``client.job_plans``.

    ``choice`` is any of ``workload``, ``state`` (a list), ``since``, ``until``, ``rule``, ``q`` (a text) and ``plan``.
    """

    def __init__(self, api: Api) -> None:
        """Send requests with ``api``."""
        self._api = api

    async def check(self, action: str, **choice: Any) -> dict[str, Any]:
        """Return what ``cancel`` or ``retry`` of all that match would be on: ``count``, ``by_state``, ``sample``."""
        body = {"action": action, "filter": without_none(choice), "dry_run": True}
        return await self._api.call("POST", JOB_PLANS_PATH, json=body)

    async def create(
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
        return await self._api.call("POST", JOB_PLANS_PATH, json=without_none(body), key=idempotency_key)

    async def get(self, plan_id: str) -> dict[str, Any]:
        """Read how far a plan is; its jobs are ``client.jobs(plan=plan_id)``."""
        return await self._api.call("GET", f"{JOB_PLANS_PATH}/{path_segment(plan_id)}")
