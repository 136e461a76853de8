"""The one place where an event is acknowledged, retried or made a dead letter; no event ends that is not stored."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn

from anyio import CancelScope
from faststream import BaseMiddleware
from faststream.exceptions import AckMessage, NackMessage, RejectMessage
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js.api import Header

from contracts.consumers import dead_letter_subject
from saccade_events.errors import Reject
from saccade_events.event import Event
from saccade_events.observer import Observer, Outcome
from saccade_events.retry_policy import RetryPolicy

log = logging.getLogger(__name__)

#: Events whose handling is remembered: an acknowledgement can be lost, and brings the event once more.
_REMEMBERED: Final = 10_000
#: Delay of an event whose dead letter could not be stored.
_BUS_AWAY_S: Final = 10.0
#: Size of a dead letter's headers at most. The server closes a connection on which a larger message than its maximum is
#: published, and a worker can store an event that has just that size.
_HEADER_BYTES: Final = 4096


class TooManyDeliveriesError(Exception):
    """The event was delivered more often than its policy allows, and no process lived to say how that went."""


@dataclass
class Settlement:
    """State that the deliveries of one router share."""

    retry: Mapping[str, RetryPolicy]
    observers: Sequence[Observer] = ()
    #: By consumer, subject and event id. The subject was checked: nobody can make another's event look repeated.
    handled: OrderedDict[tuple[str, str, str], None] = field(default_factory=OrderedDict)
    #: Events by consumer and sequence whose dead letter could not be stored: the bus took no writes, which is probably
    #: why they failed. They are handled once more. At most one for each delivery that waits.
    without_dead_letter: set[tuple[str, int]] = field(default_factory=set)

    def remember(self, key: tuple[str, str, str]) -> None:
        """Remember that an event was handled."""
        self.handled[key] = None
        if len(self.handled) > _REMEMBERED:
            self.handled.popitem(last=False)

    def settled(self, consumer: str, outcome: Outcome) -> None:
        """Report to the observers how a delivery ended."""
        for observer in self.observers:
            observer.on_settled(consumer, outcome)


class Settle(BaseMiddleware):
    """Stands inside FastStream's own acknowledgements, which carry out what is raised here (``NACK_ON_ERROR``)."""

    def __init__(self, msg: Any, /, *, context: Any, settlement: Settlement) -> None:
        super().__init__(msg, context=context)
        self._settlement = settlement

    async def consume_scope(self, call_next: Callable[[Any], Awaitable[Any]], msg: Any) -> Any:
        """Call the handler, once per event and process, and settle the delivery."""
        raw: Msg = msg.raw_message
        if not raw.reply:
            return await call_next(msg)  # by Bus.handle or a test: the caller is told how it went
        consumer, delivery = raw.metadata.consumer, raw.metadata.num_delivered
        policy = self._settlement.retry[consumer]
        position = (consumer, raw.metadata.sequence.stream)
        is_once_more = position in self._settlement.without_dead_letter
        self._settlement.without_dead_letter.discard(position)
        try:
            if delivery > policy.maximum_attempts and not is_once_more:
                raise TooManyDeliveriesError(f"{delivery - 1} deliveries ended without an answer")
            event: Event[Any] = await msg.decode()  # FastStream keeps the object: the handler is given this one
        except (ValueError, TooManyDeliveriesError) as error:
            await self._dead_letter(raw, error)
        key = (consumer, raw.subject, event.id)
        if key in self._settlement.handled:
            self._settlement.settled(consumer, "repeated")
            raise AckMessage
        try:
            result = await self._handle(call_next, msg, event, policy)
        except asyncio.CancelledError:
            self._settlement.settled(consumer, "interrupted")
            # Told to stop: another process may have it at once, not after ack_wait.
            with CancelScope(shield=True), contextlib.suppress(NatsError):
                await msg.nack()
            raise
        except (Reject, RejectMessage) as error:
            await self._dead_letter(raw, error)
        except NackMessage:
            self._settlement.settled(consumer, "retried")
            raise
        except AckMessage:
            result = None
        except Exception as error:
            log.warning("%s: delivery %d: %s: %s", consumer, delivery, type(error).__name__, error)
            if delivery >= policy.maximum_attempts:
                await self._dead_letter(raw, error)
            self._settlement.settled(consumer, "retried")
            raise NackMessage(delay=policy.delay_s(delivery)) from error
        self._settlement.remember(key)
        self._settlement.settled(consumer, "handled")
        return result

    async def _handle(
        self, call_next: Callable[[Any], Awaitable[Any]], msg: Any, event: Event[Any], policy: RetryPolicy
    ) -> Any:
        alive = asyncio.ensure_future(_report_progress(msg, policy.ack_wait_s / 3))
        try:
            with contextlib.ExitStack() as stack:
                for observer in self._settlement.observers:
                    stack.enter_context(observer.handling(msg.raw_message.metadata.consumer, event))
                async with asyncio.timeout(policy.handler_timeout_s):
                    return await call_next(msg)
        finally:
            alive.cancel()

    async def _dead_letter(self, raw: Msg, error: Exception) -> NoReturn:
        """Store the event in DEADLETTERS, and only then end it; else it comes again.

        The headers are those of a tail's dead letters, and the consumer.
        """
        about = raw.metadata
        headers = {
            "Saccade-Sequence": str(about.sequence.stream),
            "Saccade-Subject": raw.subject,
            "Saccade-Consumer": about.consumer,
            "Saccade-Deliveries": str(about.num_delivered),
            "Saccade-Error": " ".join(f"{type(error).__name__}: {error}".split())[:500],
            # The end of the event can be lost after this: its dead letter is stored once all the same.
            Header.MSG_ID.value: f"{about.consumer}:{about.sequence.stream}:{about.timestamp.timestamp()}",
        }
        client: Client = self.context.get("broker").connection
        subject = dead_letter_subject(about.stream, about.consumer)
        fits = len(raw.data) + _HEADER_BYTES <= client.max_payload  # else the sequence tells where the event is
        try:
            await client.jetstream().publish(subject, raw.data if fits else b"", headers=headers)
        except (NatsError, TimeoutError) as away:
            log.warning("%s: the dead letter of event %d was not stored", about.consumer, about.sequence.stream)
            self._settlement.without_dead_letter.add((about.consumer, about.sequence.stream))
            self._settlement.settled(about.consumer, "retried")
            raise NackMessage(delay=_BUS_AWAY_S) from away
        log.error("%s: event %d is a dead letter: %s", about.consumer, about.sequence.stream, error)
        self._settlement.settled(about.consumer, "dead_lettered")
        raise RejectMessage from error


async def _report_progress(msg: Any, every_s: float) -> None:
    """Keep an event that is being handled from being given to another process."""
    while True:
        await asyncio.sleep(every_s)
        with contextlib.suppress(NatsError):  # disconnected: the next one may arrive
            await msg.in_progress()
