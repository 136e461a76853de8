"""Health of the system in the form of the replaced backend, with the number of a tenant's videos."""

from __future__ import annotations

import time
from typing import Any, Final

from contracts.errors import SaccadeError
from contracts.job import State
from kit.http.health import Health
from modal_workers import catalog
from services.gateway.backends.reported_backends import ReportedBackends
from services.gateway.compat.badminton.videos.video_rows import STATUS_OF_ENDED
from services.gateway.compat.badminton.videos.video_service import WORKLOAD, Videos

_REQUIRED: Final = ("nats", "events", "bucket")


class BadmintonHealth:
    """The health report of the page's badge."""

    def __init__(self, health: Health, backends: ReportedBackends, videos: Videos, version: str) -> None:
        """Report the checks of ``health`` and what workers have."""
        self._health, self._backends, self._videos, self._version = health, backends, videos, version

    async def report(self, tenant: str) -> tuple[bool, dict[str, Any]]:
        """Return whether the page can be served, and the report."""
        checks = (await self._health.report()).checks
        works = {name: checks[name].status == "ok" for name in _REQUIRED}
        healthy = all(works.values())
        by_status: dict[str, int] = {}
        for state, count in self._videos.count(tenant).items():
            status = STATUS_OF_ENDED.get(State(state), "processing")
            by_status[status] = by_status.get(status, 0) + count
        report: dict[str, Any] = {
            "status": "healthy" if healthy else "unhealthy",
            "timestamp": time.time(),
            "version": self._version,
            "backend": "convex",
            "components": {
                "convex": "connected" if works["nats"] else "disconnected",
                "modal_inference": "configured" if await self._can_analyse() else "not configured",
                "database": "connected" if works["events"] and works["bucket"] else "disconnected",
            },
            "stats": {
                "total_videos": sum(by_status.values()),
                "processing": by_status.get("processing", 0),
                "videos_by_status": by_status,
            },
        }
        if not healthy:
            failed = [f"{name}: {checks[name].detail}" for name, ok in works.items() if not ok]
            report["error"] = "; ".join(failed)
        return healthy, report

    async def _can_analyse(self) -> bool:
        try:
            (await self._backends.known()).check(catalog.workload(WORKLOAD))
        except SaccadeError:
            return False
        return True
