"""Keeps the view: plans each stored event, folds each record of an attempt, and plans what is asked for once more.

Every notifier keeps its own, whether or not it is the one that sends, so that each can answer for all deliveries and
take over at any moment. All is planned again after a start from where the view, or the engine's position, had come to.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

from pydantic import ValidationError

from contracts.errors import SaccadeError
from contracts.events.base import DURABLE, decode, decode_at, subject_of
from contracts.events.delivery import WebhookDelivered, WebhookFailed, WebhookRedeliveryRequested
from contracts.events.job import JobSubmitted
from contracts.streams import DELIVERIES, EVENTS, LIVE_DELIVERIES, WEBHOOKS
from kit.bus.connection import epoch_of, request
from kit.bus.event_store import EventStore, StoredEvent
from kit.bus.tail import EventTail
from kit.tasks import first_of
from services.notifier.webhooks.deliveries.delivery import Attempt, Delivery, DeliveryState, Planned
from services.notifier.webhooks.deliveries.delivery_view import DeliveryView
from services.notifier.webhooks.deliveries.planner import Subject, lane_of_url, names_url, plan
from services.notifier.webhooks.deliveries.recent_events import Newest
from services.notifier.webhooks.deliveries.retry_schedule import is_gone
from services.notifier.webhooks.deliveries.view_file import ViewFile
from services.notifier.webhooks.endpoints.endpoint import Endpoint
from services.notifier.webhooks.endpoints.endpoint_store import Endpoints
from services.notifier.webhooks.endpoints.endpoint_view import PAUSE, EndpointView

log = logging.getLogger(__name__)

#: Where the engine writes how far all is planned and recorded: from there a lost view is built again.
POSITION: Final = "saccade.whk.engine.position"
_COMMIT_S: Final = 0.25
_PRUNE_S: Final = 10.0
#: Deliveries that are planned without letting others run.
_AT_ONCE: Final = 50
_RETRY_S: Final = 0.5


class Ledger:
    """The one writer of the view."""

    def __init__(
        self, file: ViewFile, events: EventStore, endpoints: Endpoints, newest: Newest, now: Callable[[], datetime]
    ) -> None:
        """Fold what ``newest`` and the records bring into ``file``."""
        self.file = file
        self.deliveries = DeliveryView(file)
        self.receivers = EndpointView(file)
        self.records = EventStore(events.client, DELIVERIES.name)
        #: Told of each delivery that waits anew, and of each endpoint that changed.
        self.on_pending: Callable[[Delivery], None] = lambda _: None
        self.on_endpoint: Callable[[Endpoint], None] = lambda _: None
        self.tail = self._new_tail()
        self._events = events
        self._endpoints = endpoints
        self._newest = newest
        self._now = now
        #: Every endpoint by its id, deleted ones too.
        self.endpoints: dict[str, Endpoint] = {}
        #: Set when the endpoints are known and the view is of the streams that there are.
        self._begun = asyncio.Event()
        self._awaited: dict[int, asyncio.Future[None]] = {}
        self._to_plan: dict[str, Endpoint] = {}
        #: Endpoints of an earlier incarnation of the stream: they get all of this one.
        self._stale: set[str] = set()
        endpoints.on_change(self._on_endpoint)

    async def run(self) -> None:
        """Keep the view, for ever.

        Raises:
            EpochChanged: a stream was made anew.
            sqlite3.Error: the disk does not take it.
        """
        self._begun.clear()
        while True:
            try:
                await self._begin()
                break
            except SaccadeError as error:
                log.warning("webhooks: waiting for the streams: %s", error)
                await asyncio.sleep(_RETRY_S)
        self._begun.set()
        self.tail = self._new_tail()
        await first_of(self.tail.run(self.file.recorded, self.file.records_epoch), self._plan_all(), self._keep())

    async def current(self) -> None:
        """Wait until all that is stored by now is planned and folded.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        await self._begun.wait()
        events, records = await self._state(EVENTS.name), await self._state(DELIVERIES.name)
        while True:
            folded = not records["messages"] or self.file.recorded >= records["last_seq"]
            if folded and self.file.planned >= events["last_seq"] and self.receivers.redelivery() is None:
                return
            await asyncio.sleep(0.02)

    async def seen(self, record: int) -> None:
        """Wait until a record is folded."""
        if self.file.recorded < record:
            await self._awaited.setdefault(record, asyncio.get_running_loop().create_future())

    def active(self, tenant: str, endpoint_id: str) -> Endpoint | None:
        """Give an endpoint that is sent to."""
        endpoint = self._endpoints.get(tenant, endpoint_id)
        return endpoint if endpoint is not None and endpoint.enabled and not endpoint.deleted else None

    def job_url(self, job_id: str, tenant: str) -> str | None:
        """Give the URL that a job named, unless it answered that it wants no more."""
        if (url := self.receivers.job_url(job_id, tenant)) is None:
            return None
        health = self.receivers.health(job_id)
        return None if health is not None and health.gone else url

    def _new_tail(self) -> EventTail:
        return EventTail(self.records, self._on_record, live=LIVE_DELIVERIES, name="webhooks")

    # -- the start

    async def _begin(self) -> None:
        await self._endpoints.caught_up.wait()
        epoch, last = await epoch_of(self._events.client, EVENTS.name)
        records_epoch, last_record = await epoch_of(self._events.client, DELIVERIES.name)
        file = self.file
        self._stale = {one.id for one in self._endpoints.all() if one.since_sequence > last}
        same = (file.events_epoch, file.records_epoch) == (epoch, records_epoch)
        if not same or file.planned > last or file.recorded > last_record:
            file.reset(epoch, records_epoch)
            await self._begin_anew(epoch, last)
        for tenant, endpoint_id in self.deliveries.endpoints_waited_for():
            if endpoint_id in self.endpoints and self.active(tenant, endpoint_id) is None:
                self.deliveries.cancel(endpoint_id)
        self._to_plan = {one.id: one for one in self._endpoints.all()}

    async def _begin_anew(self, epoch: str, last: int) -> None:
        """Begin a view where the engine's position says: all before is planned, and recorded in DELIVERIES."""
        stored = await EventStore(self._events.client, WEBHOOKS.name).load(POSITION)
        told: dict[str, Any] = json.loads(stored[0].body) if stored else {}
        position = min(int(told.get("sequence", 0)), last) if told.get("epoch") == epoch else 0
        async for submission in self._events.history(0, subject_of(DURABLE, "*", "job", "*", "submitted")):
            if submission.sequence > position:
                break
            self._keep_job_url(submission, Subject.of(submission.subject))
        if position:
            for endpoint in self._endpoints.all():
                self.receivers.keep_planned_since(endpoint.id, self._since(endpoint))
        self.file.reached(planned=position)

    # -- events

    async def _plan_all(self) -> None:
        # Records first: those of an earlier incarnation of EVENTS must not pass for what is planned from this one.
        await self.tail.caught_up.wait()
        while True:
            self._newest.news.clear()
            try:
                while self._to_plan:
                    await self._plan_endpoint(next(iter(self._to_plan.values())))
                while asked := self.receivers.redelivery():
                    await self._plan_redelivery(*asked)
                events, read_to = await self._newest.after(self.file.planned)
            except SaccadeError as error:
                log.warning("webhooks: %s", error)
                await asyncio.sleep(_RETRY_S)
                continue
            planned = 0
            for stored in events:
                planned += self._plan(stored)
                self.file.reached(planned=stored.sequence)
                if planned >= _AT_ONCE:
                    planned = 0
                    await asyncio.sleep(0)  # others have a turn: streams before all
            if read_to > self.file.planned:
                self.file.reached(planned=read_to)
            if events:
                await asyncio.sleep(0)
            else:
                await self._newest.news.wait()

    def _plan(self, stored: StoredEvent) -> int:
        """Plan an event; tell how many deliveries that makes."""
        subject = Subject.of(stored.subject)
        if subject is None:
            return 0
        try:
            self._keep_job_url(stored, subject)
            job_url = self.job_url(subject.subject_id, subject.tenant) if subject.noun == "job" else None
            deliveries = plan(stored, subject, self._of(subject.tenant), job_url)
        except ValueError as error:  # the hub keeps it among the dead letters
            log.warning("event %d is sent to nobody: %s", stored.sequence, error)
            return 0
        for planned in deliveries:
            self._pend(planned)
        return len(deliveries)

    def _keep_job_url(self, stored: StoredEvent, subject: Subject | None) -> None:
        if subject is None or not names_url(subject) or b'"webhook_url":"' not in stored.body:
            return
        submitted = decode_at(stored.subject, stored.body).parsed()
        if isinstance(submitted, JobSubmitted) and submitted.webhook_url:
            self.receivers.keep_job_url(subject.subject_id, subject.tenant, submitted.webhook_url, stored.sequence)

    def _pend(self, planned: Planned) -> None:
        if self.deliveries.plan(planned, self._now()) and (delivery := self.deliveries.delivery(*planned.key)):
            self.on_pending(delivery)

    def _of(self, tenant: str) -> list[Endpoint]:
        endpoints = self._endpoints.of_tenant(tenant)
        if not self._stale:
            return endpoints
        return [replace(one, since_sequence=self._since(one)) for one in endpoints]

    def _since(self, endpoint: Endpoint) -> int:
        return 0 if endpoint.id in self._stale else endpoint.since_sequence

    # -- endpoints

    def _on_endpoint(self, endpoint: Endpoint) -> None:
        self.endpoints[endpoint.id] = self._to_plan[endpoint.id] = endpoint
        if self.active(endpoint.tenant, endpoint.id) is None:
            self.deliveries.cancel(endpoint.id)
        self.on_endpoint(endpoint)
        self._newest.news.set()

    async def _plan_endpoint(self, endpoint: Endpoint) -> None:
        """Plan what was stored since an endpoint was made and before this process heard of it."""
        since, done = self._since(endpoint), self.receivers.planned_since(endpoint.id)
        until = self.file.planned
        if endpoint.deleted:
            self.receivers.forget(endpoint.id)
        elif endpoint.enabled and since != done:
            if since < until:
                async for stored in self._history(endpoint.tenant, since, until):
                    for planned in self._planned_for(endpoint, stored):
                        self._pend(planned)
            self.receivers.keep_planned_since(endpoint.id, since)
        if self._to_plan.get(endpoint.id) is endpoint:
            del self._to_plan[endpoint.id]

    def _planned_for(self, endpoint: Endpoint, stored: StoredEvent) -> list[Planned]:
        subject = Subject.of(stored.subject)
        if subject is None or subject.tenant != endpoint.tenant:
            return []
        try:
            return plan(stored, subject, [endpoint], None)
        except ValueError:
            return []

    async def _history(self, tenant: str, after: int, until: int) -> AsyncIterator[StoredEvent]:
        async for stored in self._events.history(after, f"saccade.evt.{tenant}.>"):
            if stored.sequence > until:
                return
            yield stored

    # -- redeliveries

    async def _plan_redelivery(self, record: int, body: bytes) -> None:
        """Make pending once more what a record asks for, unless it was attempted since."""
        envelope = decode(body)
        asked = WebhookRedeliveryRequested.model_validate(envelope.data)
        endpoint = self.active(envelope.tenant, asked.endpoint_id)
        if endpoint is not None:
            every_type = asked.sequences is not None
            wanted = replace(endpoint, since_sequence=0, types=() if every_type else endpoint.types)
            async for stored in self._asked_for(asked, envelope.tenant):
                for planned in self._planned_for(wanted, stored):
                    if delivery := self.deliveries.ask_again(planned, record, envelope.time):
                        self.on_pending(delivery)
        self.receivers.redelivery_planned(record)

    async def _asked_for(self, asked: WebhookRedeliveryRequested, tenant: str) -> AsyncIterator[StoredEvent]:
        if asked.sequences is None:
            after = asked.since_sequence or 0
            async for stored in self._history(tenant, after, asked.until_sequence or self.file.planned):
                yield stored
            return
        for sequence in asked.sequences:
            found, _ = await self._events.batch(sequence - 1, size=1)
            if found and found[0].sequence == sequence:
                yield found[0]

    # -- records

    def _on_record(self, stored: StoredEvent) -> None:
        try:
            envelope = decode_at(stored.subject, stored.body)
            data = envelope.parsed()
        except (KeyError, ValueError, ValidationError) as error:
            log.warning("record %d is left out: %s", stored.sequence, error)
        else:
            if isinstance(data, WebhookRedeliveryRequested):
                self.receivers.keep_redelivery(stored.sequence, stored.body)
                self._newest.news.set()
            elif isinstance(data, WebhookDelivered | WebhookFailed):
                self._settle(data, envelope.tenant, envelope.time, stored.sequence)
        self.file.reached(recorded=stored.sequence)
        if (awaited := self._awaited.pop(stored.sequence, None)) and not awaited.done():
            awaited.set_result(None)

    def _settle(self, data: WebhookDelivered | WebhookFailed, tenant: str, at: datetime, record: int) -> None:
        endpoint_id, of_job = data.endpoint_id, not data.endpoint_id.startswith("whk_")
        failed = data if isinstance(data, WebhookFailed) else None
        next_attempt_at = failed.next_attempt_at if failed else None
        lane = lane_of_url(tenant, data.url_origin) if of_job else endpoint_id
        event = (data.event_id, data.event_type, data.event_subject)
        attempt = Attempt(
            data.attempt,
            record,
            at,
            data.status,
            failed.error if failed else None,
            data.latency_ms,
            data.response_excerpt,
            next_attempt_at,
            data.url_origin,
        )
        state = DeliveryState.DELIVERED
        if failed:
            state = DeliveryState.PENDING if next_attempt_at else DeliveryState.FAILED
            if next_attempt_at and endpoint_id in self.endpoints and self.active(tenant, endpoint_id) is None:
                state = DeliveryState.CANCELLED
            self.receivers.failed(endpoint_id, tenant, at, data.status, gone=is_gone(data.status))
        else:
            self.receivers.succeeded(endpoint_id)
        self.deliveries.settle(Planned(endpoint_id, data.sequence, tenant, lane, *event), attempt, state)
        if of_job and is_gone(data.status):
            self.deliveries.cancel(endpoint_id)

    # -- the file

    async def _keep(self) -> None:
        """Commit what was folded a few times a second, and drop now and then what is past retention."""
        loop = asyncio.get_running_loop()
        prune_at = loop.time()
        while True:
            await asyncio.sleep(_COMMIT_S)
            self.file.commit()
            if loop.time() >= prune_at:
                prune_at = loop.time() + _PRUNE_S
                try:
                    events, records = await self._state(EVENTS.name), await self._state(DELIVERIES.name)
                except SaccadeError:
                    continue  # the next time will do
                self.deliveries.forget_before(events["first_seq"], records["first_seq"])
                self.receivers.forget_before(events["first_seq"], self._now() - 2 * PAUSE - timedelta(days=30))

    async def _state(self, stream: str) -> dict[str, Any]:
        info = await request(self._events.client, f"STREAM.INFO.{stream}", {})
        return dict(info.get("state", {"first_seq": 0, "last_seq": 0, "messages": 0}))
