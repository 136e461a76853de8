"""Planner: endpoints of an event, tenant isolation, no webhooks about webhooks; relay of progress."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise

import pytest

from contracts.events.base import EventData, encode
from contracts.events.delivery import WebhookDisabled
from contracts.events.job import JobCancelRequested, JobQueued
from kit.bus.event_store import StoredEvent
from services.notifier.webhooks.deliveries.delivery import PlannedDelivery
from services.notifier.webhooks.deliveries.planner import (
    EventSubject,
    origin_of,
    plan_deliveries,
    progress_endpoints,
    subscribed_endpoints,
)
from services.notifier.webhooks.endpoints.endpoint import Endpoint, EndpointSecret
from services.notifier.webhooks.sending.progress_relay import INTERVAL_S, ProgressRelay, ProgressTarget
from services.whatif import virtual_time

NOW = datetime(2026, 7, 1, tzinfo=UTC)
JOB = "job_0198c0de-0000-7000-8000-000000000001"
PLAIN = Endpoint(
    id="whk_1",
    tenant="acme",
    url="https://example.org/x",
    types=(),
    description="",
    secrets=(EndpointSecret.new(),),
    signing="v1",
    headers={},
    rate_per_s=None,
    ordered=False,
    enabled=True,
    disabled_reason=None,
    since_sequence=0,
    created_at=NOW,
    updated_at=NOW,
)
QUEUED = EventSubject("acme", "job", JOB, "job.queued")


def stored(data: EventData, subject_id: str = JOB, tenant: str = "acme") -> StoredEvent:
    message = encode(data, tenant=tenant, subject_id=subject_id, source="/test", event_id="evt_1", time=NOW)
    return StoredEvent(7, message.subject, message.body)


@pytest.mark.parametrize(
    ("change", "taken"),
    [
        ({}, True),
        ({"types": ("job.*",)}, True),
        ({"types": ("job.queued",)}, True),
        ({"types": ("job.succeeded", "upload.*")}, False),
        ({"tenant": "other"}, False),
        ({"enabled": False}, False),
        ({"deleted": True}, False),
        ({"since_sequence": 6}, True),
        ({"since_sequence": 7}, False),
    ],
)
def test_an_endpoint_gets_its_tenant_s_newer_events_of_its_types(change: dict[str, object], taken: bool) -> None:
    assert bool(subscribed_endpoints(QUEUED, 7, [replace(PLAIN, **change)])) == taken


@pytest.mark.parametrize("verb", ["delivered", "failed", "redelivery_requested"])
def test_webhooks_about_webhooks_are_not_sent(verb: str) -> None:
    subject = EventSubject("acme", "webhook", "whk_2", f"webhook.{verb}")
    assert subscribed_endpoints(subject, 7, [PLAIN, replace(PLAIN, types=("webhook.*",))]) == []


def test_webhook_disabled_is_sent_to_the_other_endpoints() -> None:
    data = WebhookDisabled(endpoint_id="whk_1", reason="gone", since=NOW)
    event = stored(data, "whk_1")
    subject = EventSubject.of(event.subject)
    assert subject
    assert [
        planned.endpoint_id for planned in plan_deliveries(event, subject, [PLAIN, replace(PLAIN, id="whk_2")], None)
    ] == ["whk_2"]


def test_a_job_s_own_url_gets_the_job_s_events_in_the_lane_of_its_origin() -> None:
    event = stored(JobCancelRequested(by="user"))
    subject = EventSubject.of(event.subject)
    assert subject
    lane = "acme https://example.org:443"
    planned = PlannedDelivery(JOB, 7, "acme", lane, "evt_1", "job.cancel_requested", JOB)
    assert plan_deliveries(event, subject, [], "https://example.org/secret/path?key=1") == [planned]


def test_an_event_on_a_wrong_subject_is_not_planned() -> None:
    forged = StoredEvent(7, stored(JobQueued(position=0)).subject, stored(JobQueued(position=0), tenant="other").body)
    with pytest.raises(ValueError, match="does not belong"):
        plan_deliveries(forged, QUEUED, [PLAIN], None)


def test_an_unknown_subject_is_none() -> None:
    assert EventSubject.of("saccade.evt.acme.job") is None
    assert EventSubject.of(stored(JobQueued(position=0)).subject) == QUEUED


def test_progress_is_only_sent_to_endpoints_that_name_it() -> None:
    subject = replace(QUEUED, type="job.progressed")
    endpoints = [
        PLAIN,
        replace(PLAIN, id="whk_2", types=("job.*",)),
        replace(PLAIN, id="whk_3", types=("job.queued", "job.progressed")),
        replace(PLAIN, id="whk_4", types=("job.progressed",), enabled=False),
        replace(PLAIN, id="whk_5", types=("job.progressed",), tenant="other"),
    ]
    assert [endpoint.id for endpoint in progress_endpoints(subject, endpoints)] == ["whk_3"]


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://example.org/a?b=c", "https://example.org:443"),
        ("http://user:word@example.org/a", "http://example.org:80"),
        ("https://EXAMPLE.org:8443/a", "https://example.org:8443"),
        ("http://[::1]:80/", "http://[::1]:80"),
        ("http://example.org:99999/", "http://example.org:0"),
        ("mailto:ops@b.example,boss@A.example,a@b.example", "mailto:a.example,b.example"),
    ],
)
def test_an_origin_shows_no_path_and_no_password(url: str, origin: str) -> None:
    assert origin_of(url) == origin


def test_progress_is_conflated_and_dropped_after_the_end() -> None:
    async def play() -> list[tuple[float, bytes]]:
        loop = asyncio.get_running_loop()
        sent: list[tuple[float, bytes]] = []

        async def send(_: ProgressTarget, body: bytes) -> None:
            sent.append((loop.time(), body))

        relay, towards = ProgressRelay(send), ProgressTarget("acme", "whk_1", "whk_1")
        for step in range(100):
            relay.offer(towards, JOB, b"%d" % step)
            await asyncio.sleep(0.03)
        relay.discard(JOB)
        await asyncio.sleep(5)
        assert relay.tasks() == []
        return sent

    sent = virtual_time.run(play())
    times = [at for at, _ in sent]
    assert len(sent) == 6
    assert all(later - earlier >= INTERVAL_S - 1e-9 for earlier, later in pairwise(times))
    numbers = [int(body) for _, body in sent]
    assert numbers == sorted(numbers)
    assert 99 not in numbers


def test_a_hanging_receiver_of_progress_leaves_slots_for_others() -> None:
    async def play() -> set[str]:
        sent = set()

        async def send(towards: ProgressTarget, _: bytes) -> None:
            if towards.lane == "hangs":
                await asyncio.sleep(1000)
            sent.add(towards.receiver_id)

        relay = ProgressRelay(send)
        for job in range(1000):
            relay.offer(ProgressTarget("acme", f"job_{job}", "hangs"), f"job_{job}", b"{}")
        relay.offer(ProgressTarget("acme", "whk_1", "well"), JOB, b"{}")
        await asyncio.sleep(1)
        assert len(relay.tasks()) < 100
        for task in relay.tasks():
            task.cancel()
        return sent

    assert virtual_time.run(play()) == {"whk_1"}
