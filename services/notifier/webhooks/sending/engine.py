"""Sending engine: one notifier at a time sends what is pending, one lane per receiver, and records each attempt.

An attempt counts when its record is stored in DELIVERIES; a process that dies before that repeats the attempt, so every
event is delivered at least once. Retries, final states and disabled endpoints follow from the records alone.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections import Counter, deque
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from nats.aio.client import Client

from contracts.errors import ErrorCode, SaccadeError
from contracts.events.base import decode
from kit.bus.lease import Lease
from kit.tasks import end, first_of
from kit.tracing import Span, span
from services.notifier.metrics import NotifierMetrics
from services.notifier.streams.sse import ENDS
from services.notifier.webhooks.deliveries.delivery import DeliveryState, PlannedDelivery, TrackedDelivery
from services.notifier.webhooks.deliveries.delivery_projector import DeliveryProjector
from services.notifier.webhooks.deliveries.planned_position import PlannedPosition
from services.notifier.webhooks.deliveries.planner import (
    EventSubject,
    lane_of_url,
    origin_of,
    progress_endpoints,
    tenant_of_lane,
)
from services.notifier.webhooks.deliveries.recent_events import RecentEvents
from services.notifier.webhooks.deliveries.retry_schedule import MAX_DELAY_S, is_responsive
from services.notifier.webhooks.endpoints.endpoint import Endpoint
from services.notifier.webhooks.endpoints.endpoint_store import EndpointStore
from services.notifier.webhooks.sending.attempt_recorder import AttemptRecorder
from services.notifier.webhooks.sending.attempt_sender import AttemptSender
from services.notifier.webhooks.sending.endpoint_disabler import EndpointDisabler
from services.notifier.webhooks.sending.lanes import CONCURRENCY, IN_MEMORY, Key, Lane, Lanes, Pool, QueuedDelivery
from services.notifier.webhooks.sending.progress_relay import ProgressRelay, ProgressTarget
from services.notifier.webhooks.sending.receiver import WebhookReceivers, traceparent_of
from services.notifier.webhooks.sending.sender import SendResult
from services.notifier.webhooks.sending.tenant_pace import TenantPace
from services.notifier.webhooks.sending.waiting_gauges import WaitingGauges

log = logging.getLogger(__name__)

#: Maximum wait before due lanes are checked again, in case the clock was changed.
_CHECK_S: Final = 1.0
_POSITION_S: Final = 1.0
#: Age of the stored position: by then every process knows the endpoints that were created before it.
_SETTLED_S: Final = 30.0
_RETRY_S: Final = 1.0
#: Pause of a lane after an unexpected error, and of a delivery whose event cannot be read.
_PAUSE_S: Final = 60.0
#: Work before other tasks run, of one tenant and of all: a lane that is checked counts 1, a started attempt 4 more.
_TENANT_WORK, _BATCH_WORK, _ATTEMPT_WORK = 10, 50, 4


class SendingEngine:
    """Queue and sender of webhooks. Every notifier runs one; the holder of the lease sends."""

    def __init__(
        self,
        client: Client,
        projector: DeliveryProjector,
        *,
        endpoints: EndpointStore,
        recent_events: RecentEvents,
        sender: AttemptSender,
        receivers: WebhookReceivers,
        disabler: EndpointDisabler,
        metrics: NotifierMetrics,
        now: Callable[[], datetime],
    ) -> None:
        """Send the pending deliveries of ``projector``."""
        self._metrics = metrics
        self._projector = projector
        self._endpoints, self._recent_events = endpoints, recent_events
        self._sender = sender
        self._receivers = receivers
        self._disabler = disabler
        self._recorder = AttemptRecorder(projector, disabler, now)
        self._now = now
        self._position = PlannedPosition(client)
        self._lease = Lease(client, "webhooks")
        self._progress = ProgressRelay(self._send_progress)
        self._lanes = Lanes()
        self._changed = asyncio.Event()
        self._attempts: set[asyncio.Task[None]] = set()
        self._active = self._stopping = False
        self._pace = TenantPace()
        #: Tenants whose attempts began when they were planned, in this iteration of the event loop.
        self._started: set[str] = set()
        self._waiting = WaitingGauges(projector.deliveries, recent_events, metrics)

    @property
    def active(self) -> bool:
        """Whether this engine is the one that sends."""
        return self._active

    @property
    def attempting(self) -> int:
        """Number of attempts in flight."""
        return len(self._attempts)

    def lanes(self) -> list[Lane]:
        """Return the lanes with deliveries or state."""
        return self._lanes.all()

    def recheck(self) -> None:
        """For tests that move the clock: check due lanes now."""
        self._changed.set()

    async def run(self) -> None:
        """Send whenever the lease is held.

        Raises:
            sqlite3.Error: the projection cannot be read or written.
        """
        try:
            while True:
                await self._lease.acquire()
                try:
                    await first_of(self._lease.keep(), self._send_due(), self._save_position())
                except SaccadeError as error:
                    log.warning("webhooks: %s", error)
                    await asyncio.sleep(_RETRY_S)
                except sqlite3.Error:
                    raise
                except Exception:  # event streams must continue, whatever happens to webhooks
                    log.exception("webhooks: sending is restarted")
                    await asyncio.sleep(_RETRY_S)
                finally:
                    self._active = False
                    await self._lease.release()
        finally:
            await end(*self._attempts, *self._progress.tasks())

    async def stop(self, grace_s: float) -> None:
        """Start no further attempt and wait up to ``grace_s`` for those in flight."""
        self._stopping = True
        if self._attempts:
            await asyncio.wait(self._attempts, timeout=grace_s)

    def on_progress(self, subject: str, body: bytes) -> None:
        """Relay a job's progress."""
        if not self._active or self._stopping or (about := EventSubject.of(subject)) is None:
            return
        for endpoint in progress_endpoints(about, self._endpoints.of_tenant(about.tenant)):
            self._progress.offer(ProgressTarget(about.tenant, endpoint.id, endpoint.id), about.subject_id, body)
        if url := self._projector.receivers.active_job_url(about.subject_id, about.tenant):
            lane = lane_of_url(about.tenant, origin_of(url))
            self._progress.offer(ProgressTarget(about.tenant, about.subject_id, lane), about.subject_id, body)

    # -- queue

    def enqueue(self, delivery: PlannedDelivery, due: datetime) -> None:
        """Put a delivery that became pending into its lane; the first of a tenant in a while is attempted now."""
        if delivery.event_type in ENDS:
            self._progress.discard(delivery.event_subject)
        if not self._active:
            return
        lane = self._lane(delivery.lane)
        if lane.ordered:
            head = self._projector.deliveries.head(delivery.endpoint_id, delivery.event_subject)
            if head is not None and head.sequence < delivery.sequence:
                return  # it is queued once the one before it is done
        lane.add(delivery, due.timestamp())
        before = self._lanes.next_at()
        if self._starts_now(lane.tenant):
            self._start_attempts(lane)
        else:
            self._lanes.wake_next(lane, self._now_s())
        if self._lanes.next_at() < before:
            self._changed.set()

    def _starts_now(self, tenant: str) -> bool:
        """Return whether a tenant's attempts may begin before the due lanes are checked: once an iteration of the loop.

        Until then each other tenant would have a turn, and so would all else that the loop does.
        """
        if self._stopping or not self._lease.held or tenant in self._started or self._lanes.is_waiting(tenant):
            return False
        if not self._started:
            asyncio.get_running_loop().call_soon(self._started.clear)
        self._started.add(tenant)
        return True

    def on_endpoint(self, endpoint: Endpoint) -> None:
        """Reset the lane of an endpoint that was changed."""
        if lane := self._lanes.get(endpoint.id):
            lane.reset()
            self._wake(lane.name)

    def on_planned(self, endpoint: Endpoint) -> None:
        """Load the lane of an endpoint in strict order anew: earlier deliveries may have been planned for it."""
        if endpoint.ordered and endpoint.active and self._active:
            self._lane(endpoint.id).clear()
            self._wake(endpoint.id)

    def _lane(self, name: str) -> Lane:
        """Return a lane with the current settings of its endpoint."""
        lane = self._lanes.lane(name)
        if name.startswith("whk_"):
            lane.configure(self._endpoints.find(name))
        elif not lane.tenant:
            lane.tenant = tenant_of_lane(name)
        return lane

    def _load(self, lane: Lane) -> None:
        limit = IN_MEMORY + CONCURRENCY
        deliveries = self._projector.deliveries
        found = deliveries.heads(lane.name, limit) if lane.ordered else deliveries.due(lane.name, limit)
        lane.load(found, more=len(found) == limit)

    def _wake(self, name: str) -> None:
        self._lanes.wake(name, self._now_s())
        self._changed.set()

    def _now_s(self) -> float:
        return self._now().timestamp()

    # -- sending

    async def _send_due(self) -> None:
        """Start due attempts as long as the lease is held."""
        await self._projector.wait_until_current()
        await self._disabler.check_all()
        log.info("this notifier sends webhooks now", extra={"waiting": self._projector.deliveries.count_pending()})
        self._active = True
        for lane in self._lanes.all():
            lane.reset()
        for name in {*self._projector.deliveries.lanes_with_pending(), *(lane.name for lane in self._lanes.all())}:
            self._wake(name)
        while not self._stopping:
            self._changed.clear()
            work = Counter[str]()
            while self._lease.held and (due := self._lanes.due(self._now_s())):
                work[due.tenant] += 1 + _ATTEMPT_WORK * self._start_attempts(self._lane(due.name))
                if work[due.tenant] >= _TENANT_WORK or work.total() >= _BATCH_WORK:
                    work.clear()
                    await asyncio.sleep(0)  # let other tasks run, event streams above all
            wait_s = max(0.0, min(self._lanes.next_at() - self._now_s(), _CHECK_S))
            try:
                async with asyncio.timeout(wait_s):
                    await self._changed.wait()
            except TimeoutError:
                continue
        await asyncio.Event().wait()  # hold the lease until the attempts in flight have ended

    def _start_attempts(self, lane: Lane) -> int:
        """Start the attempts of a lane that are due and have slots; return their number."""
        now, started = self._now_s(), 0
        waits = self._stopping or self._keeps_order(lane)
        while not waits and (taken := self._lanes.take(lane, now, self._load)):
            task = asyncio.ensure_future(self._attempt(lane, *taken))
            self._attempts.add(task)
            task.add_done_callback(self._attempts.discard)
            started += 1
        self._lanes.schedule(lane, now)
        return started

    def _keeps_order(self, lane: Lane) -> bool:
        """Return whether a lane in strict order waits: earlier events of its endpoint are still to be planned."""
        endpoint = self._endpoints.find(lane.name) if lane.ordered else None
        return endpoint is not None and self._projector.is_missing_for(endpoint)

    async def _attempt(self, lane: Lane, queued: QueuedDelivery, pool: Pool) -> None:
        """Make one attempt and queue what follows from it."""
        latency_ms, tenant, waits_for_bucket = None, lane.tenant, False
        try:
            latency_ms = await self._send(lane, queued.key)
        except (SaccadeError, sqlite3.Error) as error:  # the projector replaces a file that cannot be written
            log.warning("webhooks: %s", error)
            waits_for_bucket = isinstance(error, SaccadeError) and error.code is ErrorCode.STORAGE_UNAVAILABLE
            await asyncio.sleep(_RETRY_S)
        except Exception:  # a delivery that cannot be sent must not stop the others
            log.exception("delivery %s of event %d", queued.endpoint_id, queued.sequence)
            self._pause(lane)
        finally:
            lane.finish(queued.key, latency_ms=latency_ms)
            self._lanes.release(pool, tenant)
            self._requeue(lane, queued, waits_for_bucket=waits_for_bucket)

    def _requeue(self, lane: Lane, queued: QueuedDelivery, *, waits_for_bucket: bool) -> None:
        """Queue a delivery that is still pending, or the one that was waiting behind it."""
        deliveries = self._projector.deliveries
        try:
            if waits_for_bucket:  # others of the lane go first, whose events are in the stream
                deliveries.postpone(queued.key, self._now() + timedelta(seconds=_PAUSE_S))
            delivery = deliveries.delivery(*queued.key)
            if delivery is not None and delivery.state is DeliveryState.PENDING:
                lane.offer(delivery)
            if lane.ordered and (head := deliveries.head(queued.endpoint_id, queued.subject)):
                lane.offer(head)
        except sqlite3.Error:
            lane.clear()
        self._wake(lane.name)

    async def _send(self, lane: Lane, key: Key) -> float | None:
        """Make one attempt and store its record; return how long sending took in ms, None when nothing was sent.

        Raises:
            SaccadeError: BUS_UNAVAILABLE, STORAGE_UNAVAILABLE, before anything was sent.
        """
        deliveries, loop = self._projector.deliveries, asyncio.get_running_loop()
        delivery = deliveries.delivery(*key)
        if delivery is None or delivery.state is not DeliveryState.PENDING:
            return None
        if delivery.endpoint_id.startswith("whk_") and self._endpoints.find(delivery.endpoint_id) is None:
            self._pause(lane)  # its record cannot be decrypted with the current key
            return None
        receiver = await self._receivers.find(delivery.tenant, delivery.endpoint_id)
        body = await self._recent_events.read_body(delivery.sequence) if receiver else None
        if self._projector.is_erased(delivery):
            return None
        if receiver is None or body is None or f'"id":"{delivery.event_id}"'.encode() not in body:
            deliveries.cancel(*key)  # the receiver is no longer active, or the event is not stored any more
            return None
        with span(f"deliver {delivery.event_type}", "client", parent=traceparent_of(body)) as recorded:
            request = await self._receivers.delivery_request(receiver, delivery, body, delivery.attempts + 1)
            started = loop.time()
            result = await self._sender.send(request)
            latency_ms = (loop.time() - started) * 1000
            if recorded:
                _describe(recorded, delivery, result)
        await self._pace.turn(delivery.tenant)
        self._update_breaker(lane, result)
        self._metrics.webhook_attempts.labels(result.error or "delivered").inc()
        await self._recorder.record(receiver, request, delivery, result)
        return latency_ms

    def _pause(self, lane: Lane) -> None:
        lane.breaker.pause(self._now_s() + _PAUSE_S)

    def _update_breaker(self, lane: Lane, result: SendResult) -> None:
        now = self._now_s()
        if is_responsive(result.status, result.error):
            lane.breaker.succeeded()
        else:
            lane.breaker.failed(now)
        if result.retry_after_s and result.status in (429, 503):
            lane.breaker.pause(now + min(result.retry_after_s, MAX_DELAY_S))

    async def _send_progress(self, target: ProgressTarget, body: bytes) -> None:
        """Send progress once, unless its receiver is slow or failing, or its endpoint's rate or quiet hours forbid."""
        of_endpoint = target.lane.startswith("whk_")
        lane = self._lane(target.lane) if of_endpoint else self._lanes.get(target.lane)
        if not self._active or (lane is not None and not lane.admits(self._now_s())):
            return
        if of_endpoint:
            self._wake(target.lane)  # a lane without deliveries is dropped again
        try:
            if receiver := await self._receivers.find(target.tenant, target.receiver_id):
                await self._sender.send(await self._receivers.request_of(receiver, decode(body).id, body))
        except (SaccadeError, ValueError) as error:
            log.warning("progress is not sent: %s", error)

    # -- position

    async def _save_position(self) -> None:
        """Store the position as it was ``_SETTLED_S`` ago, up to which all is planned and recorded, when it changes."""
        loop = asyncio.get_running_loop()
        reached: deque[tuple[float, int]] = deque()
        saved = -1
        while True:
            await asyncio.sleep(_POSITION_S)
            await self._waiting.measure(self._now_s())
            if not self._active or self._projector.file.held() or self._projector.lacks_earlier:
                continue
            reached.append((loop.time(), self._projector.deliveries.complete_to()))
            position = -1
            while reached and reached[0][0] <= loop.time() - _SETTLED_S:
                position = reached.popleft()[1]
            if position < 0 or position == saved:
                continue
            await self._position.save(self._projector.file.events_epoch, position)
            saved = position


def _describe(recorded: Span, delivery: TrackedDelivery, result: SendResult) -> None:
    recorded.attributes |= {
        "saccade.event_id": delivery.event_id,
        "saccade.receiver": delivery.endpoint_id,
        "saccade.attempt": delivery.attempts + 1,
        "http.request.method": "POST",
        "http.response.status_code": result.status or 0,
    }
    recorded.error = result.error
