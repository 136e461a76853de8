"""Metrics that all services have: process, event loop, streams, how far the fold is behind, and what went wrong."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from nats.aio.client import Client
from prometheus_client import CollectorRegistry, Histogram, PlatformCollector, ProcessCollector
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from contracts.errors import SaccadeError
from contracts.streams import EVENTS, STREAMS
from kit.bus.jetstream_api import stream_info
from kit.bus.tail import EventTail
from kit.counts import COUNTS
from kit.tasks import end, first_of

_EVERY_STREAM: Final = tuple((stream.name,) for stream in STREAMS)
#: Values of the labels that are known: at zero from the start, because Prometheus' increase() does not see how a new
#: series came to its first value.
_KNOWN_VALUES: Final[dict[str, tuple[tuple[str, ...], ...]]] = {
    "saccade_publish_conflicts": _EVERY_STREAM,
    "saccade_publish_failures": _EVERY_STREAM,
}
#: Counters of kit/counts.py: what they count, and their labels.
COUNTERS: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "saccade_publish_conflicts": ("Events that were not stored because another writer was first", ("stream",)),
    "saccade_publish_failures": ("Events that were not stored, or not acknowledged in time", ("stream",)),
    "saccade_lease_changes": ("Changes of the holder of a lease, seen from this process", ("lease", "change")),
    "saccade_bucket_errors": ("Requests that the bucket refused or did not answer", ("operation", "error")),
    "saccade_modal_errors": ("Errors of Modal's client, by its class", ("error",)),
    "saccade_trace_exports": ("Requests to the collector of traces, by outcome", ("outcome",)),
}
_LAG_BUCKETS_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_LAG_EVERY_S: Final = 0.5
_STREAMS_EVERY_S: Final = 15.0
_DAY_S: Final = 86_400.0


@dataclass(frozen=True)
class StreamFill:
    """Content of a stream, as nats-server said a moment ago."""

    last_sequence: int
    messages: int
    size_bytes: int
    max_bytes: int
    #: Time until its oldest message is deleted by its age; None where nothing is, or nothing is stored.
    retention_left_s: float | None


class ServiceMetrics(Collector):
    """Registers itself; ``run`` measures until it is cancelled."""

    def __init__(
        self, registry: CollectorRegistry, client: Client, tail: EventTail, *, all_streams: bool = False
    ) -> None:
        """``tail`` is what this process has read of EVENTS; one service says what ``all_streams`` hold."""
        self._client, self._tail = client, tail
        self._streams: Sequence[str] = [stream.name for stream in STREAMS] if all_streams else [EVENTS.name]
        self._fills: dict[str, StreamFill] = {}
        self._all_streams = all_streams
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self._lag = Histogram(
            "saccade_event_loop_lag_seconds",
            "How late the event loop ran what was due, twice a second",
            buckets=_LAG_BUCKETS_S,
            registry=registry,
        )
        registry.register(self)

    async def run(self) -> None:
        """Measure until cancelled; without NATS the streams stay as they were."""
        await first_of(self._measure_lag(), self._watch_streams())

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics in Prometheus' form."""
        behind = GaugeMetricFamily("saccade_tail_lag_events", "Stored events that this process has not read yet")
        if events := self._fills.get(EVENTS.name):
            behind.add_metric([], max(0, events.last_sequence - self._tail.last))
        yield behind
        if self._all_streams:
            yield from self._of_streams()
        for name, (documentation, labels) in COUNTERS.items():
            counter = CounterMetricFamily(name, documentation, labels=labels)
            numbers = dict.fromkeys(_KNOWN_VALUES.get(name, ()), 0)
            numbers |= {values: number for (counted, values), number in list(COUNTS.items()) if counted == name}
            for values, number in numbers.items():
                counter.add_metric(values, number)
            yield counter

    def _of_streams(self) -> Iterator[Metric]:
        by_stream: dict[str, Any] = {"labels": ["stream"]}
        messages = GaugeMetricFamily("saccade_stream_messages", "Messages in a stream", **by_stream)
        size = GaugeMetricFamily("saccade_stream_bytes", "Bytes in a stream", **by_stream)
        used = GaugeMetricFamily("saccade_stream_used_ratio", "Share of a stream's limit that is used", **by_stream)
        left = GaugeMetricFamily(
            "saccade_stream_retention_left_days", "Days until the oldest message is deleted by its age", **by_stream
        )
        for name, fill in self._fills.items():
            messages.add_metric([name], fill.messages)
            size.add_metric([name], fill.size_bytes)
            if fill.max_bytes > 0:
                used.add_metric([name], fill.size_bytes / fill.max_bytes)
            if fill.retention_left_s is not None:
                left.add_metric([name], fill.retention_left_s / _DAY_S)
        yield from (messages, size, used, left)

    async def _measure_lag(self) -> None:
        while True:
            due = time.monotonic() + _LAG_EVERY_S
            await asyncio.sleep(_LAG_EVERY_S)
            self._lag.observe(max(0.0, time.monotonic() - due))

    async def _watch_streams(self) -> None:
        while True:
            for name in self._streams:
                try:
                    self._fills[name] = fill_of(await stream_info(self._client, name))
                except (SaccadeError, KeyError, ValueError):  # /health says so
                    continue
            await asyncio.sleep(_STREAMS_EVERY_S)


def fill_of(info: dict[str, Any]) -> StreamFill:
    """Return what a stream holds, from nats-server's description."""
    config, state = info["config"], info["state"]
    max_age_s = config.get("max_age", 0) / 1e9
    left_s = None
    if max_age_s and state["messages"]:
        age = datetime.fromisoformat(info.get("ts") or datetime.now(UTC).isoformat()) - datetime.fromisoformat(
            state["first_ts"]
        )
        left_s = max_age_s - age.total_seconds()
    return StreamFill(state["last_seq"], state["messages"], state["bytes"], config.get("max_bytes", -1), left_s)


@asynccontextmanager
async def measured(
    registry: CollectorRegistry, client: Client, tail: EventTail, *, all_streams: bool = False
) -> AsyncIterator[None]:
    """Add these metrics to a service's, and measure as long as it runs."""
    running = asyncio.ensure_future(ServiceMetrics(registry, client, tail, all_streams=all_streams).run())
    try:
        yield
    finally:
        await end(running)
