"""Sends what waits in the view: one notifier at a time, each receiver in a lane of its own, every attempt recorded.

An attempt counts when its record is stored in DELIVERIES; a process that dies before it makes the attempt again, so
everything is delivered at least once. Retries, ends and disabled endpoints follow from the records alone.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import sqlite3
from collections import deque
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final

from contracts.errors import SaccadeError
from contracts.events.base import Message, decode, encode
from contracts.events.delivery import WebhookDelivered, WebhookFailed
from contracts.ids import new_id
from contracts.streams import WEBHOOKS
from kit.bus.event_store import EventStore
from kit.bus.lease import Lease
from kit.tasks import end, first_of
from services.notifier.metrics import Metrics
from services.notifier.streams.sse import ENDS
from services.notifier.webhooks.deliveries.delivery import Delivery, DeliveryState
from services.notifier.webhooks.deliveries.delivery_projector import POSITION, Ledger
from services.notifier.webhooks.deliveries.planner import Subject, lane_of_url, origin_of, takers_of_progress
from services.notifier.webhooks.deliveries.recent_events import Newest
from services.notifier.webhooks.deliveries.retry_schedule import LONGEST_S, is_alive, next_attempt_s
from services.notifier.webhooks.endpoints.endpoint import Endpoint
from services.notifier.webhooks.endpoints.endpoint_disabler import Disabling
from services.notifier.webhooks.endpoints.endpoint_store import Endpoints
from services.notifier.webhooks.sending.lanes import CONCURRENCY, IN_MEMORY, Key, Lane, Lanes, Waiting
from services.notifier.webhooks.sending.progress_relay import ProgressRelay, Towards
from services.notifier.webhooks.sending.receiver import Receiver, Receivers
from services.notifier.webhooks.sending.sender import Answer, Sender

log = logging.getLogger(__name__)

#: A lane is looked at again after at most this long, whatever the clock does.
_LOOK_S: Final = 1.0
_POSITION_S: Final = 1.0
#: The position that is written is this old: by then every process has heard of the endpoints that were made before.
_SETTLED_S: Final = 30.0
_RETRY_S: Final = 1.0
#: What nobody foresaw is not tried again at once.
_PAUSE_S: Final = 60.0
_LIMITS: Final = frozenset({429, 503})


class Engine:
    """The sending side. All notifiers run one; the holder of the lease sends."""

    def __init__(
        self,
        events: EventStore,
        ledger: Ledger,
        *,
        endpoints: Endpoints,
        newest: Newest,
        sender: Sender,
        receivers: Receivers,
        metrics: Metrics,
        now: Callable[[], datetime],
    ) -> None:
        """Send what ``ledger`` plans."""
        self._metrics = metrics
        self._ledger = ledger
        self._endpoints = endpoints
        self._newest = newest
        self._sender = sender
        self._receivers = receivers
        self._now = now
        self._positions = EventStore(events.client, WEBHOOKS.name)
        self._lease = Lease(events.client, "webhooks")
        self._disabling = Disabling(events, ledger, endpoints, now)
        self._progress = ProgressRelay(self._send_progress)
        self._lanes = Lanes()
        self._news = asyncio.Event()
        self._attempts: set[asyncio.Task[None]] = set()
        self._active = False
        self._stopping = False
        ledger.on_pending = self._on_pending
        ledger.on_endpoint = self._on_endpoint

    @property
    def active(self) -> bool:
        """Tell whether this is the engine that sends."""
        return self._active

    @property
    def attempting(self) -> int:
        """Count the attempts that are out."""
        return len(self._attempts)

    def lanes(self) -> list[Lane]:
        """List the lanes that have something to do or to remember."""
        return self._lanes.all()

    def wake(self) -> None:
        """Look at the clock: it may have jumped."""
        self._news.set()

    async def run(self) -> None:
        """Send whenever the lease is held, for ever."""
        try:
            while True:
                await self._lease.acquire()
                try:
                    await first_of(self._lease.keep(), self._act(), self._tell_position())
                except SaccadeError as error:
                    log.warning("webhooks: %s", error)
                    await asyncio.sleep(_RETRY_S)
                except sqlite3.Error:
                    raise
                except Exception:  # streams go on, whatever becomes of webhooks
                    log.exception("webhooks: sending begins again")
                    await asyncio.sleep(_RETRY_S)
                finally:
                    self._active = False
                    await self._lease.release()
        finally:
            await end(*self._attempts, *self._progress.tasks())

    async def stop(self, grace_s: float) -> None:
        """Begin no attempt any more, and let those that are out come to their end for a moment."""
        self._stopping = True
        if self._attempts:
            await asyncio.wait(self._attempts, timeout=grace_s)

    def on_progress(self, subject: str, body: bytes) -> None:
        """Take a job's progress."""
        if not self._active or self._stopping or (about := Subject.of(subject)) is None:
            return
        for endpoint in takers_of_progress(about, self._endpoints.of_tenant(about.tenant)):
            self._progress.offer(Towards(about.tenant, endpoint.id, endpoint.id), about.subject_id, body)
        if url := self._ledger.job_url(about.subject_id, about.tenant):
            lane = lane_of_url(about.tenant, origin_of(url))
            self._progress.offer(Towards(about.tenant, about.subject_id, lane), about.subject_id, body)

    # -- what waits

    def _on_pending(self, delivery: Delivery) -> None:
        if delivery.event_type in ENDS:
            self._progress.ended(delivery.event_subject)
        if self._active:
            self._offer(delivery)

    def _on_endpoint(self, endpoint: Endpoint) -> None:
        if lane := self._lanes.get(endpoint.id):
            lane.renew()
            self._wake(lane.name)

    def _offer(self, delivery: Delivery) -> None:
        lane = self._lane(delivery.lane)
        if lane.ordered:
            head = self._ledger.deliveries.head(delivery.endpoint_id, delivery.event_subject)
            if head is not None and head.sequence < delivery.sequence:
                return  # it comes after what waits before it
        lane.offer(delivery)
        self._wake(lane.name)

    def _lane(self, name: str) -> Lane:
        """Give a lane as its endpoint wants it now."""
        lane = self._lanes.lane(name)
        if name.startswith("whk_"):
            endpoint = self._ledger.endpoints.get(name)
            ordered = endpoint is not None and endpoint.ordered
            if ordered != lane.ordered:
                lane.ordered = ordered
                lane.clear()
            lane.rate_per_s = endpoint.rate_per_s if endpoint else None
        return lane

    def _load(self, lane: Lane) -> None:
        limit = IN_MEMORY + CONCURRENCY
        view = self._ledger.deliveries
        found = view.heads(lane.name, limit) if lane.ordered else view.due(lane.name, limit)
        lane.load(found, more=len(found) == limit)

    def _wake(self, name: str) -> None:
        self._lanes.wake(name, self._now_s())
        self._news.set()

    def _now_s(self) -> float:
        return self._now().timestamp()

    # -- sending

    async def _act(self) -> None:
        """Send, as long as the lease is held."""
        await self._ledger.current()
        await self._disabling.judge_all()
        log.info("webhooks are sent from here", extra={"waiting": self._ledger.deliveries.count_pending()})
        self._active = True
        for lane in self._lanes.all():
            lane.renew()
        for name in {*self._ledger.deliveries.lanes(), *(lane.name for lane in self._lanes.all())}:
            self._wake(name)
        while not self._stopping:
            self._news.clear()
            looked = 0
            while self._lease.held and (due := self._lanes.due(self._now_s())):
                self._pump(self._lane(due.name))
                if (looked := looked + 1) % 20 == 0:
                    await asyncio.sleep(0)  # others have a turn: streams before all
            wait_s = max(0.0, min(self._lanes.next_at() - self._now_s(), _LOOK_S))
            try:
                async with asyncio.timeout(wait_s):
                    await self._news.wait()
            except TimeoutError:
                continue
        await asyncio.Event().wait()  # the lease is kept until what is out has come to its end

    def _pump(self, lane: Lane) -> None:
        now = self._now_s()
        while not self._stopping and (taken := self._lanes.take(lane, now, self._load)):
            task = asyncio.ensure_future(self._attempt(lane, *taken))
            self._attempts.add(task)
            task.add_done_callback(self._attempts.discard)
        self._lanes.plan_look(lane, now)

    async def _attempt(self, lane: Lane, waiting: Waiting, slow: bool) -> None:
        """Make one attempt and see to what comes after it."""
        spent_ms = None
        try:
            spent_ms = await self._try(lane, waiting.key)
        except (SaccadeError, sqlite3.Error) as error:  # a view that cannot be written is begun anew by its writer
            log.warning("webhooks: %s", error)
            await asyncio.sleep(_RETRY_S)
        except Exception:  # one delivery that cannot be made must not stop the others
            log.exception("delivery %s of event %d", waiting.endpoint_id, waiting.sequence)
            self._pause(lane)
        finally:
            lane.finish(waiting.key, latency_ms=spent_ms)
            self._lanes.release(slow=slow)
            self._look_after(lane, waiting)

    def _look_after(self, lane: Lane, waiting: Waiting) -> None:
        """Offer what an attempt left to do: itself once more, or what waited behind it."""
        view = self._ledger.deliveries
        try:
            delivery = view.delivery(*waiting.key)
            if delivery is not None and delivery.state is DeliveryState.PENDING:
                lane.offer(delivery)
            if lane.ordered and (head := view.head(waiting.endpoint_id, waiting.subject)):
                lane.offer(head)
        except sqlite3.Error:
            lane.clear()
        self._wake(lane.name)

    async def _try(self, lane: Lane, key: Key) -> float | None:
        """Make one attempt and store its record; give how long sending took, None when nothing was sent.

        Raises:
            SaccadeError: BUS_UNAVAILABLE, before anything was sent.
        """
        view, loop = self._ledger.deliveries, asyncio.get_running_loop()
        delivery = view.delivery(*key)
        if delivery is None or delivery.state is not DeliveryState.PENDING:
            return None
        if delivery.endpoint_id.startswith("whk_") and delivery.endpoint_id not in self._ledger.endpoints:
            self._pause(lane)  # its record cannot be read: with the right key it can
            return None
        receiver = await self._receivers.find(delivery.tenant, delivery.endpoint_id)
        body = await self._newest.body(delivery.sequence) if receiver else None
        if receiver is None or body is None or f'"id":"{delivery.event_id}"'.encode() not in body:
            view.cancel(*key)  # nobody wants it any more, or the stream has another event in its place, or none
            return None
        began = loop.time()
        answer = await self._sender.send(self._receivers.write(receiver, delivery, body, delivery.attempts + 1))
        spent_ms = (loop.time() - began) * 1000
        self._note(lane, answer)
        self._metrics.webhook_attempts.labels(answer.error or "delivered").inc()
        await self._record(receiver, delivery, answer)
        return spent_ms

    def _pause(self, lane: Lane) -> None:
        lane.breaker.pause(self._now_s() + _PAUSE_S)

    def _note(self, lane: Lane, answer: Answer) -> None:
        now = self._now_s()
        if is_alive(answer.status):
            lane.breaker.succeeded()
        else:
            lane.breaker.failed(now)
        if answer.retry_after_s and answer.status in _LIMITS:
            lane.breaker.pause(now + min(answer.retry_after_s, LONGEST_S))

    async def _record(self, receiver: Receiver, delivery: Delivery, answer: Answer) -> None:
        """Store how an attempt went, however long that takes, and see it in the view."""
        now, attempt = self._now(), delivery.attempts + 1
        fields: dict[str, Any] = {
            "endpoint_id": delivery.endpoint_id,
            "event_id": delivery.event_id,
            "event_type": delivery.event_type,
            "event_subject": delivery.event_subject,
            "sequence": delivery.sequence,
            "attempt": attempt,
            "status": answer.status,
            "latency_ms": answer.latency_ms,
            "response_excerpt": answer.excerpt,
            "url_origin": origin_of(receiver.url),
        }
        data: WebhookDelivered | WebhookFailed
        if answer.error is None:
            data = WebhookDelivered(**fields)
        else:
            wait_s = next_attempt_s(
                attempt - delivery.scheduled_from,
                status=answer.status,
                error=answer.error,
                retry_after_s=answer.retry_after_s,
                chance=random.random(),  # noqa: S311 - spreads retries, keeps no secret
            )
            next_attempt_at = None if wait_s is None else now + timedelta(seconds=wait_s)
            data = WebhookFailed(**fields, error=answer.error, next_attempt_at=next_attempt_at)
        message = encode(
            data,
            tenant=delivery.tenant,
            subject_id=delivery.endpoint_id,
            source="/notifier",
            event_id=f"{delivery.endpoint_id}.{delivery.event_id}.{attempt}",
            time=now,
        )
        await self._ledger.seen(await self._store(message))
        if answer.error is not None and receiver.endpoint is not None:
            await self._disabling.judge(receiver.endpoint.tenant, receiver.endpoint.id)

    async def _store(self, message: Message) -> int:
        while True:
            try:
                return await self._ledger.records.publish(message)
            except SaccadeError as error:
                log.warning("webhooks: an attempt is not recorded yet: %s", error)
                await asyncio.sleep(_RETRY_S)

    async def _send_progress(self, towards: Towards, body: bytes) -> None:
        """Send progress once, unless its receiver is in trouble."""
        lane = self._lanes.get(towards.lane)
        if not self._active or (lane is not None and lane.slow):
            return
        try:
            if receiver := await self._receivers.find(towards.tenant, towards.receiver_id):
                await self._sender.send(self._receivers.sign(receiver, decode(body).id, body))
        except (SaccadeError, ValueError) as error:
            log.warning("progress is not sent: %s", error)

    # -- the position

    async def _tell_position(self) -> None:
        """Write how far all is planned and recorded, as it was a moment ago, when that has changed."""
        loop = asyncio.get_running_loop()
        reached: deque[tuple[float, int]] = deque()
        written = -1
        while True:
            await asyncio.sleep(_POSITION_S)
            self._metrics.webhooks_waiting.set(self._ledger.deliveries.count_pending())
            if not self._active:
                continue
            reached.append((loop.time(), self._ledger.deliveries.complete_to()))
            position = -1
            while reached and reached[0][0] <= loop.time() - _SETTLED_S:
                position = reached.popleft()[1]
            if position < 0 or position == written:
                continue
            body = json.dumps({"epoch": self._ledger.file.events_epoch, "sequence": position}).encode()
            await self._positions.publish(Message(subject=POSITION, id=new_id("evt"), body=body))
            written = position
