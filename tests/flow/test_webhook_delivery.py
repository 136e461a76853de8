"""Events reach endpoints: once each when all is well, again by the schedule when not, in order where that is asked."""

from __future__ import annotations

import asyncio
from collections import Counter
from itertools import pairwise

import pytest
from aiohttp import web

from services.notifier.webhooks.deliveries.retry_schedule import RETRY_DELAYS_S
from services.notifier.webhooks.endpoints.endpoint import Endpoint
from tests.harness.servers.embedded import HOST, EmbeddedNats, free_port
from tests.harness.streams.notifier import progressed, publisher, submitted, succeeded
from tests.harness.webhooks.delivery import RunningWebhooks, check, run_webhooks
from tests.harness.webhooks.listeners import WebhookListener, hang, huge, listening

pytestmark = pytest.mark.anyio

JOB = ["job.submitted", "job.queued", "job.starting", "job.started", "job.succeeded"]


def oldest_age_s(here: RunningWebhooks) -> float:
    """Return what the metrics say: the age of the oldest event with a pending delivery."""
    gauge = here.webhooks.engine._metrics.webhooks_oldest
    return next(iter(gauge.collect())).samples[0].value


async def test_each_event_reaches_its_endpoints_once_signed_and_byte_for_byte(nats_server: EmbeddedNats) -> None:
    settings = nats_server.settings
    async with publisher(settings) as bus, run_webhooks(settings) as here, listening() as all_, listening() as ends:
        everything = await here.make(all_.url, headers={"X-Own": "yes"})
        only_ends = await here.make(ends.url, types=("job.succeeded", "job.failed"))
        await here.make(ends.url, tenant="other")
        jobs = [await bus.submit() for _ in range(5)]
        for job_id in jobs:
            await bus.start(job_id)
            await bus.say(job_id, succeeded())
        await all_.wait(25)
        await ends.wait(5)
        await here.settled(everything.id, 25)
        await here.settled(only_ends.id, 5)
        stored = [one async for one in bus.store.history(0)]
        assert sorted(got.body for got in all_.got) == sorted(one.body for one in stored)
        assert {got.type for got in ends.got} == {"job.succeeded"}
        assert len(ends.got) == 5
        for got in all_.got:
            check(got, everything.secrets[0])
            assert got.headers["x-own"] == "yes"
            assert got.headers["content-type"] == "application/json"
            assert stored[got.sequence - 1].body == got.body


async def test_a_failing_receiver_is_tried_eight_times_on_schedule_with_the_same_bytes(
    nats_server: EmbeddedNats,
) -> None:
    settings = nats_server.settings
    async with publisher(settings) as bus, run_webhooks(settings) as here, listening(status=500) as broken:
        endpoint = await here.make(broken.url)
        await bus.submit()
        for attempt, wait_s in enumerate((*RETRY_DELAYS_S, None), 1):
            await broken.wait(attempt)
            await here.until(lambda attempt=attempt: len(here.view.attempts(endpoint.id, 1)) == attempt)
            made = here.view.attempts(endpoint.id, 1)[-1]
            assert (made.status, made.error, made.response_excerpt) == (500, "http_status", "noted")
            if wait_s is None:
                assert made.next_attempt_at is None
                break
            assert made.next_attempt_at
            least = 60 if made.error == "timeout" else 0.8 * wait_s
            assert least <= (made.next_attempt_at - made.at).total_seconds() <= 1.2 * wait_s
            here.pass_(seconds=0.7 * wait_s)
            await asyncio.sleep(0.05)
            assert len(broken.got) == attempt, "too early"
            here.pass_(seconds=0.5 * wait_s)
            if attempt == 5:
                await here.until(lambda wait_s=wait_s: oldest_age_s(here) > wait_s)
        assert here.states(endpoint.id) == ["failed"]
        await here.until(lambda: oldest_age_s(here) == 0, 5.0)  # what was given up waits no longer
        assert len({got.body for got in broken.got}) == len(set(broken.ids())) == 1
        assert len({got.headers["webhook-timestamp"] for got in broken.got}) == 8


async def test_a_receiver_that_comes_back_gets_what_it_missed(nats_server: EmbeddedNats) -> None:
    settings = nats_server.settings
    async with publisher(settings) as bus, run_webhooks(settings) as here, listening(status=503) as shaky:
        endpoint = await here.make(shaky.url)
        for _ in range(20):
            await bus.submit()
        await here.until(lambda: here.view.complete_to() < 20 and len(shaky.got) >= 5)
        shaky.status = 204
        for _ in range(12):
            here.pass_(minutes=5)
            await asyncio.sleep(0.1)
        await here.settled(endpoint.id, 20)
        assert len(shaky.got) < 40, "the breaker leaves probes only"


async def test_retry_after_is_honoured_for_the_event_and_the_receiver(nats_server: EmbeddedNats) -> None:
    settings = nats_server.settings
    async with publisher(settings) as bus, run_webhooks(settings) as here, listening(status=429) as busy:
        busy.headers = {"Retry-After": "1800"}
        endpoint = await here.make(busy.url)
        await bus.submit()
        await here.until(lambda: here.view.attempts(endpoint.id, 1))
        busy.status, busy.headers = 200, {}
        await bus.submit()
        here.pass_(minutes=29)
        await asyncio.sleep(0.2)
        assert len(busy.got) == 1
        here.pass_(minutes=7)
        await here.settled(endpoint.id, 2)


async def test_a_receiver_that_is_gone_is_disabled_and_others_hear_of_it(nats_server: EmbeddedNats) -> None:
    settings = nats_server.settings
    async with (
        publisher(settings) as bus,
        run_webhooks(settings) as here,
        listening(status=410) as gone,
        listening() as ops,
    ):
        endpoint = await here.make(gone.url)
        watching = await here.make(ops.url, types=("webhook.disabled",))
        await bus.submit()
        got = (await ops.wait(1))[0]
        check(got, watching.secrets[0])
        assert (got.event["subject"], got.event["data"]["reason"]) == (endpoint.id, "gone")
        await here.until(lambda: not _enabled(here, endpoint))
        await bus.submit()
        await asyncio.sleep(0.2)
        assert len(gone.got) == 1
        assert here.endpoints.get("local", endpoint.id).disabled_reason == "gone"
        assert len(await bus.store.load("saccade.evt.local.webhook.*.disabled")) == 1


async def test_five_days_of_only_failures_disable_an_endpoint(nats_server: EmbeddedNats) -> None:
    settings = nats_server.settings
    async with publisher(settings) as bus, run_webhooks(settings) as here, listening(status=500) as dead:
        endpoint = await here.make(dead.url, types=("job.submitted",))
        hours = 0
        while _enabled(here, endpoint):
            assert hours < 24 * 6
            tried = len(dead.got)
            await bus.submit()
            here.pass_(hours=6)
            hours += 6
            # Either the breaker lets a probe through, or the endpoint was disabled by the one before.
            await here.until(lambda tried=tried: len(dead.got) > tried or not _enabled(here, endpoint))
            await here.until(lambda: not here.webhooks.engine.attempting)
        assert hours >= 24 * 5
        event = (await bus.store.load("saccade.evt.local.webhook.*.disabled"))[0]
        assert b'"reason":"failing"' in event.body
        assert set(here.states(endpoint.id)) <= {"cancelled", "failed"}
        # Enabled again, it is given five days anew.
        dead.status = 200
        await here.change(here.endpoints.get("local", endpoint.id), enabled=True, disabled_reason=None)
        count = len(dead.got)
        await bus.submit()
        await dead.wait(count + 1)


def _enabled(here: RunningWebhooks, endpoint: Endpoint) -> bool:
    now = here.endpoints.get(endpoint.tenant, endpoint.id)
    return now is not None and now.enabled


async def test_strict_order_holds_over_failures_and_only_within_a_job(nats_server: EmbeddedNats) -> None:
    settings = nats_server.settings

    async def fail_first_of_one(one: WebhookListener, request: web.Request) -> web.StreamResponse:
        got = one.got[-1]
        again = one.ids().count(got.id) > 1
        broken = got.event["subject"] == bad and got.type == "job.queued" and not again
        return web.Response(status=500 if broken else 200)

    async with (
        publisher(settings) as bus,
        run_webhooks(settings) as here,
        listening(respond=fail_first_of_one) as careful,
    ):
        bad, well = await bus.submit(), await bus.submit()
        endpoint = await here.make(careful.url, ordered=True)
        for job_id in (bad, well):
            await bus.start(job_id)
            await bus.say(job_id, succeeded())
        await here.until(lambda: careful.of_job(well) == JOB[1:])
        await asyncio.sleep(0.2)
        assert careful.of_job(bad) == ["job.queued"], "what comes after it waits"
        here.pass_(seconds=10)
        await here.settled(endpoint.id, 8)
        assert careful.of_job(bad) == ["job.queued", *JOB[1:]]


async def test_one_delivery_or_all_since_a_moment_are_delivered_again_when_asked(nats_server: EmbeddedNats) -> None:
    settings = nats_server.settings
    async with publisher(settings) as bus, run_webhooks(settings) as here, listening() as again:
        endpoint = await here.make(again.url, types=("job.*",))
        for _ in range(6):
            await bus.submit()
        await here.settled(endpoint.id, 6)
        await here.redeliver(endpoint, sequences=[2])
        await again.wait(7)
        assert again.got[6].id == next(got.id for got in again.got if got.sequence == 2)
        await here.until(lambda: len(here.view.attempts(endpoint.id, 2)) == 2)
        await here.redeliver(endpoint, since_sequence=3, until_sequence=6)
        await again.wait(10)
        await here.until(lambda: here.states(endpoint.id) == ["delivered"] * 6)
        counted = Counter(got.sequence for got in again.got)
        assert counted == {1: 1, 2: 2, 3: 1, 4: 2, 5: 2, 6: 2}


async def test_a_job_s_own_url_gets_its_events_and_nobody_else_s(nats_server: EmbeddedNats) -> None:
    settings = nats_server.settings
    async with publisher(settings) as bus, run_webhooks(settings) as here, listening() as own:
        mine, other = "job_0198c0de-0000-7000-8000-000000000001", await bus.submit()
        await bus.say(mine, submitted().model_copy(update={"webhook_url": own.url}))
        for job_id in (mine, other):
            await bus.start(job_id)
            await bus.say(job_id, succeeded())
        await here.settled(mine, 5)
        assert sorted(own.of_job(mine)) == sorted(JOB)
        assert len(own.got) == 5
        secret = (await here.endpoints.default_secrets("local")).secrets[0]
        for got in own.got:
            check(got, secret)


async def test_progress_is_conflated_and_never_tried_again(nats_server: EmbeddedNats) -> None:
    settings = nats_server.settings
    async with publisher(settings) as bus, run_webhooks(settings) as here, listening() as own, listening() as named:
        await here.make(named.url, types=("job.progressed",))
        plain = await here.make(named.url, types=("job.*",))
        await here.until(lambda: here.webhooks.engine.active)
        job_id = "job_0198c0de-0000-7000-8000-000000000002"
        await bus.say(job_id, submitted().model_copy(update={"webhook_url": own.url}))
        await here.settled(job_id, 1)
        for step in range(60):
            await bus.say(job_id, progressed(step / 60))
            await asyncio.sleep(0.03)
        await here.until(lambda: _fractions(own) and _fractions(own)[-1] == 59 / 60)
        for one in (own, named):
            shown = _fractions(one)
            assert 3 <= len(shown) <= 8
            assert shown == sorted(shown)
            times = [got.at for got in one.got if got.type == "job.progressed"]
            assert all(later - earlier > 0.4 for earlier, later in pairwise(times))
        own.status = 500
        await bus.say(job_id, progressed(1.0))
        await here.until(lambda: _fractions(own)[-1] == 1.0)
        here.pass_(hours=1)
        await asyncio.sleep(0.3)
        assert _fractions(own).count(1.0) == 1
        await here.settled(plain.id, 1)
        assert here.view.count_pending() == 0


def _fractions(one: WebhookListener) -> list[float]:
    return [got.event["data"]["fraction"] for got in one.got if got.type == "job.progressed"]


async def test_bad_receivers_hold_up_nobody(nats_server: EmbeddedNats) -> None:
    """One answers never, one without an end, one is not there, one lies about being busy: the good one gets all."""
    settings = nats_server.settings
    dead_url = f"http://{HOST}:{free_port()}/"
    async with (
        publisher(settings) as bus,
        run_webhooks(settings) as here,
        listening(respond=hang) as hanging,
        listening(respond=huge) as flooding,
        listening(status=500) as broken,
        listening() as good,
    ):
        for one in (hanging, flooding, broken):
            await here.make(one.url)
        await here.make(dead_url)
        endpoint = await here.make(good.url)
        for _ in range(100):
            await bus.submit()
        await here.settled(endpoint.id, 100)
        assert len(set(good.ids())) == len(good.got) == 100
        assert hanging.most_open <= 4
        assert flooding.most_open <= 4


async def test_what_was_stored_before_an_endpoint_is_not_sent_and_what_came_just_after_is(
    nats_server: EmbeddedNats,
) -> None:
    settings = nats_server.settings
    async with publisher(settings) as bus, run_webhooks(settings) as here, listening() as late:
        for _ in range(5):
            await bus.submit()
        await here.until(lambda: here.webhooks.projector.file.planned == 5)
        # The engine hears of the events before it hears of the endpoint that was made before them.
        jobs = [await bus.submit() for _ in range(3)]
        await here.until(lambda: here.webhooks.projector.file.planned == 8)
        endpoint = await here.make(late.url, since=5)
        await here.settled(endpoint.id, 3)
        assert sorted(got.event["subject"] for got in late.got) == sorted(jobs)


async def test_deliveries_of_a_disabled_or_deleted_endpoint_end(nats_server: EmbeddedNats) -> None:
    settings = nats_server.settings
    async with publisher(settings) as bus, run_webhooks(settings) as here, listening(status=500) as broken:
        first, second = await here.make(broken.url), await here.make(broken.url)
        await bus.submit()
        await broken.wait(2)
        await here.change(first, enabled=False)
        await here.change(second, enabled=False, deleted=True)
        await here.until(lambda: here.states(first.id) == here.states(second.id) == ["cancelled"])
        here.pass_(hours=1)
        await asyncio.sleep(0.2)
        assert len(broken.got) == 2


async def test_a_long_queue_stays_in_the_view_and_is_sent_when_the_receiver_is_back(
    nats_server: EmbeddedNats, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("lanes", "engine"):
        monkeypatch.setattr(f"services.notifier.webhooks.sending.{module}.IN_MEMORY", 20)
    settings = nats_server.settings
    async with publisher(settings) as bus, run_webhooks(settings) as here, listening(status=500) as away:
        endpoint = await here.make(away.url, rate_per_s=1000)
        for _ in range(20):
            await asyncio.gather(*(bus.submit() for _ in range(20)))
        await here.until(lambda: here.view.count_pending() == 400)
        assert all(lane.size <= 20 for lane in here.webhooks.engine.lanes())
        away.status = 200
        for _ in range(3):
            here.pass_(minutes=6)
            await asyncio.sleep(0.05)
        await here.settled(endpoint.id, 400)
        assert {got.sequence for got in away.got} == set(range(1, 401))


async def test_an_attempt_made_while_the_bus_is_away_is_recorded_when_it_is_back(nats_server: EmbeddedNats) -> None:
    settings = nats_server.settings
    gate = asyncio.Event()

    async def wait(one: WebhookListener, request: web.Request) -> web.StreamResponse:
        await gate.wait()
        return web.Response()

    async with publisher(settings) as bus, run_webhooks(settings) as here, listening(respond=wait) as slow:
        endpoint = await here.make(slow.url)
        for _ in range(3):
            await bus.submit()
        await slow.wait(3)
        nats_server.kill()
        gate.set()
        await here.until(lambda: slow.open == 0)
        await asyncio.sleep(0.5)
        nats_server.start()
        await here.settled(endpoint.id, 3, timeout_s=20)
        await bus.submit()
        await here.settled(endpoint.id, 4, timeout_s=20)
        assert len(slow.got) == 4
