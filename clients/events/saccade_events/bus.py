"""Broker of FastStream's on a connection that belongs to the service, with a watch over the reactions' consumers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from faststream.exceptions import SetupError
from faststream.nats import NatsBroker
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js.api import ConsumerInfo
from nats.js.errors import NotFoundError

from contracts.consumers import JETSTREAM_API
from saccade_events.consumer import declare_consumer
from saccade_events.errors import ConsumerMissing, StreamReplaced
from saccade_events.event import SEQUENCE_HEADER
from saccade_events.observer import Observer
from saccade_events.reactions import Reaction, Reactions

log = logging.getLogger(__name__)

#: Looks in a row after which a consumer counts as stalled, or as missing where it may not be declared here.
_LOOKS: Final = 3


class _StopsAreNoErrors(logging.Filter):
    """Drops FastStream's report of a handler that a stop has cancelled: Settle has given its event to others."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to log."""
        error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
        return not isinstance(error, asyncio.CancelledError)


log.addFilter(_StopsAreNoErrors())


class Bus(NatsBroker):
    """Runs reactions, and other routers that are included, on a connection that is given and stays open."""

    def __init__(
        self,
        client: Client,
        *reactions: Reactions,
        observers: Sequence[Observer] = (),
        declare: bool = True,
        stop_s: float = 1.0,
        look_s: float = 2.0,
        api_prefix: str = JETSTREAM_API,
        **options: Any,
    ) -> None:
        """Use a connection that reconnects for ever.

        With ``declare=False`` the consumers must exist: for credentials that may not create them. A stop waits
        ``stop_s`` for handlers; what takes longer is given to other processes. Every ``look_s`` the consumers are
        looked at. ``api_prefix`` is the beginning of JetStream's requests in the account of the connection.
        """
        # By default there are two lines a message at INFO, in a handler of its own; errors come through.
        options.setdefault("logger", logging.getLogger(__name__))
        super().__init__(
            routers=[service.router(observers) for service in reactions],
            graceful_timeout=stop_s,
            js_options={"prefix": api_prefix},
            log_level=logging.DEBUG,
            **options,
        )
        self._client = client
        self._jetstream = client.jetstream(prefix=api_prefix)
        self._observers = observers
        self._may_declare = declare
        self._look_s = look_s
        self._reactions = {reaction.consumer: reaction for service in reactions for reaction in service.declarations}
        self._streams: dict[str, datetime | None] = {}
        self._consumers: dict[str, datetime] = {}
        self._idle_looks: dict[str, int] = {}
        self._missing_looks: dict[str, int] = {}

    async def _connect(self) -> Client:
        self.config.connect(self._client)
        return self._client

    async def start(self) -> None:
        """Declare the consumers and listen.

        Raises:
            SetupError: FastStream would declare a stream, which resets every option that it does not know.
            ConsumerMissing: a consumer does not exist and may not be declared here.
        """
        if declared := [stream.name for stream, _ in self._stream_builder.objects.values() if stream.declare]:
            raise SetupError(f"streams are declared by the operator: say declare=False of {declared}")
        for reaction in self._reactions.values():
            if self._may_declare:
                await self._remember_stream(reaction.stream)
            await self._declare(reaction)
        await super().start()

    async def stop(self, *error: Any) -> None:
        """Take no more events, wait for handlers, and leave the connection as it is."""
        self._connection = None  # otherwise NatsBroker.stop drains and closes it
        await super().stop(*error)

    async def run(self) -> None:
        """React until cancelled, and declare a consumer again that was deleted.

        Raises:
            StreamReplaced: a stream was deleted or created anew.
            ConsumerMissing: a consumer is gone and may not be declared here.
        """
        try:
            await self._start_when_available()
            while True:
                await asyncio.sleep(self._look_s)
                for reaction in self._reactions.values():
                    with contextlib.suppress(NatsError, TimeoutError):  # the server is away; the next look tells
                        await self._look(reaction)
        finally:
            await self._stop_completely()

    async def handle(self, consumer: str, subject: str, body: bytes, sequence: int = 0) -> None:
        """Call a reaction with an event at hand, such as a dead letter's; its errors are raised, nothing is retried.

        Raises:
            KeyError: this bus has no such reaction.
            ValueError: the bytes are not such an event.
        """
        headers = {SEQUENCE_HEADER: str(sequence)}
        for subscriber in self.subscribers:
            if getattr(subscriber, "extra_options", {}).get("durable") == consumer:
                message = Msg(_client=self._client, subject=subject, data=body, headers=headers, _ackd=True)
                await subscriber.process_message(message)
                return
        raise KeyError(consumer)

    async def _start_when_available(self) -> None:
        while True:
            try:
                await self.start()
            except (NatsError, TimeoutError) as away:
                # Also a stream or consumer that was deleted between two requests: the next start tells which.
                log.warning("reactions cannot start yet: %s", str(away) or type(away).__name__)
                await self.stop()
                await asyncio.sleep(self._look_s)
            else:
                return

    async def _remember_stream(self, stream: str) -> None:
        """Remember when a stream was created, which tells whether it is still the same.

        Raises:
            StreamReplaced: it is not.
        """
        try:
            created = (await self._jetstream.stream_info(stream)).created
        except NotFoundError as error:
            raise StreamReplaced(stream) from error
        if self._streams.setdefault(stream, created) != created:
            raise StreamReplaced(stream)

    async def _declare(self, reaction: Reaction) -> None:
        if self._may_declare:
            info = await declare_consumer(self._jetstream, reaction.stream, reaction.config)
        else:
            try:
                info = await self._jetstream.consumer_info(reaction.stream, reaction.consumer)
            except NotFoundError as error:
                raise ConsumerMissing(reaction.consumer) from error
            if info.config.ack_wait is not None and info.config.ack_wait < reaction.retry.ack_wait_s:
                log.warning(
                    "%s was declared with an ack_wait of %g s, which is shorter than the %g s of its RetryPolicy:"
                    " events that are being handled are given to other processes too",
                    *(reaction.consumer, info.config.ack_wait, reaction.retry.ack_wait_s),
                )
        self._consumers[reaction.consumer] = info.created

    async def _look(self, reaction: Reaction) -> None:
        """Look at a consumer. FastStream goes on asking one that is gone, thousands of times a second, in silence."""
        try:
            info = await self._jetstream.consumer_info(reaction.stream, reaction.consumer)
        except NotFoundError as error:
            missing = self._missing_looks[reaction.consumer] = self._missing_looks.get(reaction.consumer, 0) + 1
            if self._may_declare:
                log.warning("%s: the consumer is gone; it is declared again", reaction.consumer)
                await self._remember_stream(reaction.stream)
                await self._declare(reaction)
            elif missing >= _LOOKS:
                raise ConsumerMissing(reaction.consumer) from error
            return
        self._missing_looks.pop(reaction.consumer, None)
        if self._may_declare and info.created != self._consumers[reaction.consumer]:
            await self._remember_stream(reaction.stream)  # another process was quicker to declare it again
            self._consumers[reaction.consumer] = info.created
        self._observe(reaction.consumer, info)

    def _observe(self, consumer: str, info: ConsumerInfo) -> None:
        is_idle = bool(info.num_pending) and not info.num_waiting and not info.num_ack_pending
        looks = self._idle_looks[consumer] = self._idle_looks.get(consumer, 0) + 1 if is_idle else 0
        if looks == _LOOKS:
            log.error("%s: %s events wait, and nobody asks for them", consumer, info.num_pending)
        for observer in self._observers:
            observer.on_look(consumer, info, stalled=looks >= _LOOKS)

    async def _stop_completely(self) -> None:
        """Stop although the task is cancelled again meanwhile: handlers would be cut off that have time left."""
        stopping = asyncio.ensure_future(self.stop())
        cancelled: asyncio.CancelledError | None = None
        while not stopping.done():
            try:
                await asyncio.wait([stopping])
            except asyncio.CancelledError as error:
                cancelled = error
        if not stopping.cancelled() and (failed := stopping.exception()):
            log.warning("reactions stopped with an error: %s", failed)
        if cancelled is not None:
            raise cancelled
