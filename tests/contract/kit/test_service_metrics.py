"""Metrics that all services have, against a real bus: what is behind, what streams hold, what went wrong."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from contracts.events.base import encode
from contracts.events.job import JobQueued
from contracts.ids import new_id
from contracts.streams import LIVE_EVENTS
from kit.bus.connection import connect, declare
from kit.bus.event_store import Conflict, EventStore
from kit.bus.lease import Lease
from kit.bus.tail import EventTail
from kit.counts import COUNTS, count
from kit.service_metrics import COUNTERS, fill_of, measured
from tests.harness.servers.embedded import NatsServer

pytestmark = pytest.mark.anyio


def sample(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(name, labels)


async def test_streams_tail_and_failures_are_measured(nats_server: NatsServer) -> None:
    client = await connect(nats_server.settings, "test")
    await declare(client, 1)
    store, job = EventStore(client), new_id("job")
    tail = EventTail(store, lambda _: None, live=LIVE_EVENTS, name="test")  # it does not run: all is behind
    message = encode(JobQueued(position=1), tenant="acme", subject_id=job, source="/test")
    await store.publish(message, after=0)
    before = COUNTS["saccade_publish_conflicts", ("EVENTS",)]
    other = encode(JobQueued(position=2), tenant="acme", subject_id=job, source="/test")
    with pytest.raises(Conflict):
        await store.publish(other, after=0)
    lease = Lease(client, "measured")
    await lease.acquire()
    registry = CollectorRegistry()
    async with measured(registry, client, tail, all_streams=True):
        while sample(registry, "saccade_stream_messages", stream="OPS") is None:
            await asyncio.sleep(0.05)
        assert sample(registry, "saccade_tail_lag_events") == 1
        assert sample(registry, "saccade_stream_messages", stream="EVENTS") == 1
        assert sample(registry, "saccade_publish_conflicts_total", stream="EVENTS") == before + 1
        assert sample(registry, "saccade_lease_changes_total", lease="measured", change="acquired") == 1
        days = sample(registry, "saccade_stream_retention_left_days", stream="EVENTS")
        assert days == pytest.approx(90, abs=0.1)
        used = sample(registry, "saccade_stream_used_ratio", stream="EVENTS")
        assert used is not None
        assert 0 < used < 0.01
        assert (sample(registry, "process_open_fds") or 0) > 0
        while not sample(registry, "saccade_event_loop_lag_seconds_count"):
            await asyncio.sleep(0.05)
    await lease.release()
    await client.close()
    assert acme_is_in_no_label(registry)


def acme_is_in_no_label(registry: CollectorRegistry) -> bool:
    """Neither tenants nor ids become labels."""
    text = generate_latest(registry).decode()
    return "acme" not in text and "job_" not in text


def test_a_stream_without_messages_or_limit_has_no_edge() -> None:
    state = {"last_seq": 0, "messages": 0, "bytes": 0, "first_ts": "0001-01-01T00:00:00Z"}
    assert fill_of({"config": {"max_age": 10**9}, "state": state}).retention_left_s is None
    state |= {"messages": 1, "first_ts": "2026-11-23T12:00:00.123456789Z"}
    assert fill_of({"config": {}, "state": state}).retention_left_s is None
    told = {"config": {"max_age": 60 * 10**9}, "state": state, "ts": "2026-11-23T12:00:20.123456789Z"}
    assert fill_of(told).retention_left_s == pytest.approx(40)


def test_counts_do_not_grow_without_end() -> None:
    for number in range(5000):
        count("saccade_test", str(number))
    assert sum(name == "saccade_test" for name, _ in COUNTS) <= 1000
    for key in [key for key in COUNTS if key[0] == "saccade_test"]:
        del COUNTS[key]


def test_every_count_is_shown() -> None:
    """A count without documentation would be counted for nobody."""
    assert {name for name, _ in COUNTS} <= set(COUNTERS)
