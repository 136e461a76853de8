"""Declaration of reactions: which event is handled by which coroutine, how often and how many at once."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeVar

from faststream import AckPolicy
from faststream.nats import JStream, NatsRouter, PullSub
from nats.aio.client import Client
from nats.js.api import ConsumerConfig

from contracts.asyncapi import address_of, stream_of
from contracts.consumers import consumer_name
from contracts.events.base import ADVISORY, EventData
from saccade_events.consumer import consumer_config, declare_consumer
from saccade_events.event import decode_event
from saccade_events.observer import Observer
from saccade_events.retry_policy import RetryPolicy
from saccade_events.settle import Settle, Settlement

#: A handler's first parameter is ``Event[…]``; others are ``Annotated[…, Context()]``.
Handler = TypeVar("Handler", bound=Callable[..., Awaitable[None]])
#: A pull that waits when the server restarts is repeated after so long; an idle reaction costs one pull a second.
_PULL: Final = PullSub(batch_size=1, timeout=1)
_DEFAULT_RETRY: Final = RetryPolicy()


@dataclass(frozen=True)
class Reaction:
    """One handler of one event."""

    #: Name of its durable consumer.
    consumer: str
    event: type[EventData]
    handler: Callable[..., Awaitable[None]]
    retry: RetryPolicy
    #: Events that are handled at the same time, in all processes together.
    concurrency: int

    @property
    def stream(self) -> str:
        """Name of the stream that stores the event."""
        return stream_of(self.event).name

    @property
    def config(self) -> ConsumerConfig:
        """Configuration of its consumer."""
        return consumer_config(self.consumer, address_of(self.event), self.retry, self.concurrency)


class Reactions:
    """The reactions of one service.

    A reaction has no order, and may be called twice with the same event (``event.id`` tells): it must be idempotent.
    """

    def __init__(self, service: str) -> None:
        """Name the service; the name is part of its consumers' names."""
        self.service = service
        self._declared: dict[str, Reaction] = {}
        self._is_in_use = False

    @property
    def declarations(self) -> tuple[Reaction, ...]:
        """The reactions, in the order in which they were declared."""
        return tuple(self._declared.values())

    def on(
        self, event: type[EventData], retry: RetryPolicy = _DEFAULT_RETRY, *, concurrency: int = 4
    ) -> Callable[[Handler], Handler]:
        """Return a decorator: the coroutine is called with each ``Event[event]``, and stays a plain function.

        Raises:
            TypeError: the handler is not a coroutine function; others would run in a pool of threads.
            ValueError: the event is advisory, or has a reaction already.
            RuntimeError: a bus runs these reactions already and would not know this one.
        """
        if event.kind == ADVISORY:
            raise ValueError(f"{event.type} is advisory: only its newest message is kept, it cannot be reacted to")

        def declare(handler: Handler) -> Handler:
            is_coroutine = inspect.iscoroutinefunction(handler)
            if not is_coroutine:
                raise TypeError(f"{handler!r} must be defined with async def")
            consumer = consumer_name(self.service, event.type)
            if consumer in self._declared:
                raise ValueError(f"{self.service} reacts to {event.type} already: one consumer has one handler")
            if self._is_in_use:
                raise RuntimeError(f"declare {consumer} before a bus or a router is made of these reactions")
            self._declared[consumer] = Reaction(consumer, event, handler, retry, concurrency)
            return handler

        return declare

    def router(self, observers: Sequence[Observer] = ()) -> NatsRouter:
        """Return a router for a broker of FastStream's; each broker needs one of its own."""
        self._is_in_use = True
        settlement = Settlement({reaction.consumer: reaction.retry for reaction in self.declarations}, observers)
        router = NatsRouter(middlewares=[partial(Settle, settlement=settlement)])
        for reaction in self.declarations:
            _subscribe(router, reaction)
        return router

    async def declare(self, client: Client) -> None:
        """Create the consumers that are missing, and bring the others up to date where they may be changed."""
        jetstream = client.jetstream()
        for reaction in self.declarations:
            await declare_consumer(jetstream, reaction.stream, reaction.config)


def _subscribe(router: NatsRouter, reaction: Reaction) -> None:
    """Subscribe a handler; no default of FastStream's is left to chance (docs/adr/0020, test_traps.py)."""
    subscribe: Any = router.subscriber  # its overloads know no concurrent pull of one message
    subscriber = subscribe(
        address_of(reaction.event),
        durable=reaction.consumer,
        config=reaction.config,
        # Otherwise FastStream replaces the stream's configuration by its own.
        stream=JStream(reaction.stream, declare=False),
        pull_sub=_PULL,
        max_workers=reaction.concurrency,
        # Otherwise a header of the message chooses how its body is read.
        decoder=partial(decode_event, reaction.event),
        # Settle decides; this is what happens to an error of its own.
        ack_policy=AckPolicy.NACK_ON_ERROR,
        # Otherwise a header of the message says to which subject this service publishes what the handler returns.
        no_reply=True,
        # The connection's: FastStream would take one that the credentials may not allow.
        inbox_prefix=None,
        title=reaction.event.type,  # name of the channel in contracts/asyncapi.py
    )
    subscriber(reaction.handler)
