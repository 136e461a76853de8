"""Replays into webhook endpoints: each event once, marked, after live deliveries, without effect on the endpoint.

A record of each attempt is stored in DELIVERIES, where live deliveries have theirs. Its type and subject are others, so
that it counts neither for the endpoint's health nor in its list; the newest one is the checkpoint.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from contracts.errors import ErrorCode, SaccadeError
from contracts.events.base import Message, decode, decode_at, encode
from contracts.events.delivery import ReplayDeliveryAttempted
from contracts.replay import EVERY_TENANT, Replay, ReplayCounts, ReplaySelection, ReplayState
from contracts.sandbox import REPLAY_HEADER, REPLAY_OF_HEADER
from contracts.streams import DELIVERIES
from kit.bus.event_store import Conflict
from kit.history.history import HistoryEvent
from services.notifier.metrics import NotifierMetrics
from services.notifier.replays.live_traffic import LiveTraffic
from services.notifier.replays.target import Checkpoint, SendOutcome, TargetCheck, WantedReplay, require_unsent
from services.notifier.replays.targets.replay_lane import ReplayLane
from services.notifier.webhooks.deliveries.planner import EventSubject, origin_of, subscribed_endpoints
from services.notifier.webhooks.deliveries.replayed_deliveries import record_subject
from services.notifier.webhooks.endpoints.endpoint import Endpoint
from services.notifier.webhooks.endpoints.endpoint_store import EndpointStore
from services.notifier.webhooks.sending.attempt_sender import AttemptSender
from services.notifier.webhooks.sending.sender import SendResult, WebhookRequest
from services.notifier.webhooks.webhook_delivery import WebhookDelivery

log = logging.getLogger(__name__)

#: Longest wait before quiet hours, rate and endpoint are looked at again, and interval while live deliveries are due.
_CHECK_S: Final = 1.0
_LIVE_S: Final = 0.01
_RETRY_S: Final = 1.0
#: Time that a process that stops gives an attempt which is under way.
_GRACE_S: Final = 0.5


def takes(endpoint: Endpoint, event: HistoryEvent) -> bool:
    """Return whether an endpoint takes an event, by the rules of live deliveries; its age does not matter."""
    subject = EventSubject.of(event.subject)
    # An endpoint gets live deliveries from its creation on. A replay brings it what was before, too.
    whole = replace(endpoint, since_sequence=0)
    return subject is not None and bool(subscribed_endpoints(subject, event.sequence, [whole]))


def selection_of(endpoint: Endpoint, selection: ReplaySelection) -> ReplaySelection | None:
    """Return the part of a selection that an endpoint can take: of its tenant and types; None: nothing."""
    if EVERY_TENANT not in selection.tenants and endpoint.tenant not in selection.tenants:
        return None
    return selection.model_copy(update={"tenants": (endpoint.tenant,)}).narrowed(endpoint.types)


@dataclass(frozen=True)
class _Parts:
    """Objects that all targets share."""

    delivery: WebhookDelivery
    endpoints: EndpointStore
    sender: AttemptSender
    metrics: NotifierMetrics
    traffic: LiveTraffic
    now: Callable[[], datetime]


class WebhookTargetKind:
    """Webhook endpoints as targets."""

    def __init__(
        self,
        delivery: WebhookDelivery,
        endpoints: EndpointStore,
        sender: AttemptSender,
        metrics: NotifierMetrics,
        *,
        traffic: LiveTraffic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Send beside the live deliveries of ``delivery``."""
        self._parts = _Parts(delivery, endpoints, sender, metrics, traffic, now)
        self._lanes: dict[str, ReplayLane] = {}
        #: Attempts under way, by replay: one that its replay has given up ends by itself.
        self._under_way: dict[str, asyncio.Task[SendOutcome]] = {}
        delivery.projector.on_attempt(self._count_live)
        endpoints.on_change(self._on_endpoint)

    async def check(self, wanted: WantedReplay) -> TargetCheck:
        """Answer a plan.

        Raises:
            SaccadeError: WEBHOOK_NOT_FOUND, WEBHOOK_DISABLED, REPLAY_TARGET_REFUSED, BUS_UNAVAILABLE.
        """
        await self._parts.endpoints.wait_until_read()
        endpoint = self._endpoint(wanted.into.name, wanted.tenant, wanted.selection)
        if not endpoint.enabled:
            raise SaccadeError(ErrorCode.WEBHOOK_DISABLED)
        if endpoint.format != "cloudevents":
            # People read these: a message has no header that marks it, and nobody recognises one that came before.
            raise SaccadeError(
                ErrorCode.REPLAY_TARGET_REFUSED,
                f"The endpoint sends messages ({endpoint.format}), and a message cannot be marked as a replay.",
            )
        warnings = []
        if endpoint.quiet_hours:
            hours = endpoint.quiet_hours
            warnings.append(f"The replay waits in the endpoint's quiet hours, {hours.start} to {hours.end}.")
        if endpoint.rate_per_s:
            warnings.append("The endpoint's rate is shared: the replay gets what live deliveries leave of it.")
        if self._parts.delivery.projector.is_live_waiting(endpoint):
            warnings.append("Live deliveries to the endpoint are waiting: the replay begins after them.")
        takes_of = selection_of(endpoint, wanted.selection)
        return TargetCheck(takes_of, tuple(warnings), endpoint.rate_per_s)

    async def open(self, replay: Replay) -> WebhookTarget:
        """Return the target of a replay, after an attempt that is still under way.

        Raises:
            SaccadeError: WEBHOOK_NOT_FOUND, BUS_UNAVAILABLE.
        """
        await self._parts.endpoints.wait_until_read()
        if attempt := self._under_way.get(replay.id):
            await asyncio.wait([attempt])
        endpoint = self._endpoint(replay.plan.into.name, replay.tenant, replay.plan.selection)
        return WebhookTarget(replay, endpoint, self._parts, self._lane_of(endpoint), self._under_way)

    def _endpoint(self, endpoint_id: str, tenant: str, selection: ReplaySelection) -> Endpoint:
        """Return the endpoint: of the tenant who asks, or of one whose events an operator replays."""
        known = self._parts.endpoints.find(endpoint_id)
        allowed = {tenant, *selection.tenants}
        if known is None or known.deleted or not (known.tenant in allowed or EVERY_TENANT in allowed):
            raise SaccadeError(ErrorCode.WEBHOOK_NOT_FOUND, f"There is no webhook endpoint {endpoint_id[:60]!r}.")
        return known

    def _lane_of(self, endpoint: Endpoint) -> ReplayLane:
        return self._lanes.setdefault(endpoint.id, ReplayLane())

    def _on_endpoint(self, endpoint: Endpoint) -> None:
        """Forget the lane of a deleted endpoint; that of any other limits its next replays, too."""
        if endpoint.deleted:
            self._lanes.pop(endpoint.id, None)

    def _count_live(self, endpoint_id: str, at: datetime) -> None:
        if lane := self._lanes.get(endpoint_id):
            lane.count(at.timestamp())


class WebhookTarget:
    """An endpoint as the target of one replay: one attempt at a time, in the order of the events."""

    def __init__(
        self,
        replay: Replay,
        endpoint: Endpoint,
        parts: _Parts,
        lane: ReplayLane,
        under_way: dict[str, asyncio.Task[SendOutcome]],
    ) -> None:
        """Send to ``endpoint``; ``under_way`` keeps the attempt that a caller gives up."""
        self._replay = replay
        self._endpoint_id, self._tenant = endpoint.id, endpoint.tenant
        self._parts = parts
        self._lane = lane
        self._under_way = under_way
        self._subject = record_subject(endpoint.tenant, replay.id)
        #: Sequence of the newest record: the condition of the next one.
        self._last_record = 0
        self._skipped = self._failed = 0
        #: How long the newest attempt took.
        self._worked_s = 0.0

    async def resume_after(self) -> Checkpoint | None:
        """Return the position of the newest record.

        Raises:
            SaccadeError: REPLAY_TARGET_REFUSED: the records have expired; BUS_UNAVAILABLE.
        """
        stored = await self._parts.delivery.projector.records.load(self._subject)
        if not stored:
            # Records expire, and a tenant with more than its share of the stream loses its oldest.
            require_unsent(self._replay, DELIVERIES.max_age_s, self._parts.now(), "records")
            return None
        data = ReplayDeliveryAttempted.model_validate(decode_at(stored[0].subject, stored[0].body).data)
        self._last_record = stored[0].sequence
        self._skipped, self._failed = data.skipped, data.failed
        return Checkpoint(data.sequence, data.skipped, data.failed)

    async def send(self, event: HistoryEvent) -> SendOutcome:
        """Send an event once, when nothing live waits; the attempt goes on if the caller is cancelled meanwhile.

        Raises:
            SaccadeError: WEBHOOK_NOT_FOUND, WEBHOOK_DISABLED, REPLAY_TARGET_REFUSED: the endpoint was changed;
                BUS_UNAVAILABLE: another notifier sends this replay.
        """
        if not takes(self._endpoint(), event):
            self._skipped += 1
            return SendOutcome.SKIPPED
        loop = asyncio.get_running_loop()
        await self._parts.traffic.rest(self._worked_s)
        endpoint, started = await self._turn(), loop.time()
        attempt = asyncio.ensure_future(self._attempt(endpoint, event))
        self._under_way[self._replay.id] = attempt
        attempt.add_done_callback(self._ended)
        outcome = await asyncio.shield(attempt)
        self._worked_s = loop.time() - started
        return outcome

    async def close(self, outcome: ReplayState, counts: ReplayCounts) -> None:  # noqa: ARG002 - of the protocol
        """Wait a moment for an attempt that is under way: one that is cut off is repeated by the next process."""
        if attempt := self._under_way.get(self._replay.id):
            await asyncio.wait([attempt], timeout=_GRACE_S)

    def _ended(self, attempt: asyncio.Task[SendOutcome]) -> None:
        self._under_way.pop(self._replay.id, None)
        if not attempt.cancelled() and (error := attempt.exception()):
            log.warning("replay %s: %s", self._replay.id, error)

    def _endpoint(self) -> Endpoint:
        """Return the endpoint as it is now: with its current URL, secrets and types."""
        endpoint = self._parts.endpoints.get(self._tenant, self._endpoint_id)
        if endpoint is None or endpoint.deleted:
            raise SaccadeError(ErrorCode.WEBHOOK_NOT_FOUND, "The endpoint was deleted during the replay.")
        if not endpoint.enabled:
            raise SaccadeError(ErrorCode.WEBHOOK_DISABLED, "The endpoint was disabled during the replay.")
        if endpoint.format != "cloudevents":
            message = "The endpoint sends messages now, which cannot be marked as a replay."
            hint = "Set its format to cloudevents, or replay into another endpoint."
            raise SaccadeError(ErrorCode.REPLAY_TARGET_REFUSED, message, hint=hint)
        return endpoint

    async def _turn(self) -> Endpoint:
        """Wait until the endpoint may be sent a replayed event, and return it: live deliveries are always first."""
        while True:
            endpoint, now = self._endpoint(), self._parts.now().timestamp()
            self._lane.rate.per_s = endpoint.rate_per_s
            wait_s = self._lane.allows_at(now, endpoint.quiet_hours) - now
            if wait_s > 0:
                await asyncio.sleep(min(wait_s, _CHECK_S))
            elif self._parts.delivery.projector.is_live_waiting(endpoint):
                await asyncio.sleep(_LIVE_S)
            else:
                self._lane.count(now)
                return endpoint

    async def _attempt(self, endpoint: Endpoint, event: HistoryEvent) -> SendOutcome:
        """Make the attempt and store its record, however long that takes.

        Raises:
            SaccadeError: BUS_UNAVAILABLE: another notifier has stored one meanwhile.
        """
        try:
            event_id = decode(event.body).id
        except ValueError:  # not an event: live deliveries leave it out, too
            self._skipped += 1
            return SendOutcome.SKIPPED
        request = await self._request(endpoint, event, event_id)
        await self._parts.traffic.let_pass()
        result = await self._parts.sender.send(request)
        await self._parts.traffic.let_pass()
        self._parts.metrics.replay_attempts.labels(result.error or "delivered").inc()
        self._lane.answered(result.status, result.retry_after_s, self._parts.now().timestamp())
        if result.error is not None:
            self._failed += 1
        self._last_record = await self._store(self._record(endpoint, event, event_id, result))
        return SendOutcome.SENT if result.error is None else SendOutcome.FAILED

    async def _request(self, endpoint: Endpoint, event: HistoryEvent, event_id: str) -> WebhookRequest:
        """Return the request: the stored bytes, signed for now; ``saccade-cursor`` is that of live deliveries only."""
        receivers, plan = self._parts.delivery.receivers, self._replay.plan
        message_id = f"{event_id}:{self._replay.id}" if plan.into.as_new else event_id
        request = await receivers.request_of(receivers.of_endpoint(endpoint), message_id, event.body)
        assert isinstance(request, WebhookRequest)
        cursor = f"{plan.window.epoch}.{event.sequence}"
        marks = {REPLAY_HEADER: self._replay.id, REPLAY_OF_HEADER: cursor}
        return replace(request, headers={**request.headers, **marks})

    def _record(self, endpoint: Endpoint, event: HistoryEvent, event_id: str, result: SendResult) -> Message:
        subject = EventSubject.of(event.subject)
        assert subject is not None
        data = ReplayDeliveryAttempted(
            endpoint_id=endpoint.id,
            event_id=event_id,
            event_type=subject.type,
            event_subject=subject.subject_id,
            sequence=event.sequence,
            status=result.status,
            error=result.error,
            latency_ms=result.latency_ms,
            response_excerpt=result.excerpt,
            url_origin=origin_of(endpoint.url),
            skipped=self._skipped,
            failed=self._failed,
        )
        return encode(
            data,
            tenant=self._tenant,
            subject_id=self._replay.id,
            source="/notifier",
            event_id=f"{self._replay.id}.{event.sequence}",
            time=self._parts.now(),
        )

    async def _store(self, record: Message) -> int:
        records = self._parts.delivery.projector.records
        while True:
            try:
                return await records.publish(record, after=self._last_record)
            except Conflict:
                message = "Another notifier has gone on with this replay."
                raise SaccadeError(ErrorCode.BUS_UNAVAILABLE, message) from None
            except SaccadeError as error:
                log.warning("replay %s: an attempt is not recorded yet: %s", self._replay.id, error)
                await asyncio.sleep(_RETRY_S)
