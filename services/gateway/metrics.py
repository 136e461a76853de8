"""Prometheus metrics of the gateway."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from kit.auth.quota_metrics import QuotaMetrics
from kit.auth.quotas import Quotas

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_BUCKETS_S: Final = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class GatewayMetrics:
    """Counters of one gateway process."""

    def __init__(self, quotas: Quotas | None = None) -> None:
        """Register all metrics, at zero, and the refusals by ``quotas``."""
        self.registry = CollectorRegistry()
        if quotas is not None:
            self.registry.register(QuotaMetrics(quotas))
        self._requests = Counter(
            "saccade_gateway_requests", "Requests answered.", ("method", "route", "status"), registry=self.registry
        )
        self._seconds = Histogram(
            "saccade_gateway_request_seconds",
            "Time to answer.",
            ("method", "route"),
            buckets=_BUCKETS_S,
            registry=self.registry,
        )
        self._jobs = Gauge(
            "saccade_gateway_unfinished_jobs", "Jobs that have not ended.", ("state",), registry=self.registry
        )
        self._sequence = Gauge(
            "saccade_gateway_view_sequence", "Sequence of the last event in the view.", registry=self.registry
        )

        self._sessions = Gauge(
            "saccade_gateway_unfinished_sessions", "Sessions that have not ended.", ("state",), registry=self.registry
        )
        self._readers = Gauge(
            "saccade_gateway_session_sockets",
            "Readers of sessions' events.",
            registry=self.registry,
        )
        #: ``received`` and ``refused`` by this gateway; ``accepted``, ``dropped`` and ``rejected`` by workers.
        self.frames = Counter("saccade_gateway_frames", "Frames of sessions.", ("verdict",), registry=self.registry)
        self.joint_samples = Counter("saccade_gateway_joint_samples", "Accepted joint samples.", registry=self.registry)

        self._dead_letters = Gauge(
            "saccade_dead_letters",
            "Dead letters that nobody has settled, as they were a moment ago.",
            ("kind", "service"),
            registry=self.registry,
        )

    def set_dead_letters(self, counts: Mapping[tuple[str, str], int]) -> None:
        """Set the number of open dead letters by kind and service."""
        self._dead_letters.clear()
        for (kind, service), count in counts.items():
            self._dead_letters.labels(kind, service).set(count)

    def count_request(self, method: str, route: str, status: int, duration_s: float) -> None:
        """Count a request."""
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(method, route).observe(duration_s)

    def set_sessions(self, unfinished: dict[str, int], readers: int) -> None:
        """Set the number of sessions by state, and of readers of their events."""
        self._sessions.clear()
        for state, count in unfinished.items():
            self._sessions.labels(state).set(count)
        self._readers.set(readers)

    def render(self, unfinished: dict[str, int], sequence: int) -> tuple[bytes, str]:
        """Return all metrics in Prometheus' text format, and its content type."""
        self._jobs.clear()
        for state, count in unfinished.items():
            self._jobs.labels(state).set(count)
        self._sequence.set(sequence)
        return generate_latest(self.registry), CONTENT_TYPE_LATEST


class RequestCounter:
    """ASGI middleware that counts requests by route, not by path, so that ids do not create new series."""

    def __init__(self, app: ASGIApp, metrics: Callable[[], GatewayMetrics]) -> None:
        """``metrics`` returns the counters."""
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Process a request and count its answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start = time.perf_counter()
        status = 500

        async def send_and_record(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_and_record)
        finally:
            route = getattr(scope.get("route"), "path", "(none)")
            self._metrics().count_request(_method(scope["method"]), route, status, time.perf_counter() - start)


def _method(method: str) -> str:
    return method if method in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} else "(other)"
