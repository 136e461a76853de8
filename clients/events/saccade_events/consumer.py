"""The durable consumer of a reaction: its configuration, and how it is declared."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

from nats.js import JetStreamContext
from nats.js.api import ConsumerConfig, ConsumerInfo, DeliverPolicy
from nats.js.errors import NotFoundError

from saccade_events.retry_policy import RetryPolicy

#: A new consumer begins so far back, and so does one that was deleted: events that came meanwhile are handled, and some
#: are handled again, which a reaction must bear anyway.
_LOOK_BACK: Final = timedelta(hours=1)


def consumer_config(name: str, address: str, retry: RetryPolicy, concurrency: int) -> ConsumerConfig:
    """Return the configuration of a reaction's consumer; ``address`` is the event's subject with ``{parameters}``."""
    return ConsumerConfig(
        name=name,
        durable_name=name,
        filter_subject=address.replace("{tenant}", "*").replace("{id}", "*"),
        deliver_policy=DeliverPolicy.BY_START_TIME,
        opt_start_time=datetime.now(UTC) - _LOOK_BACK,
        ack_wait=retry.ack_wait_s,
        # Settle counts. A limit of the server's would end an event without a word and without a dead letter.
        max_deliver=-1,
        # As many as are handled: more would wait in a process until their ack_wait is over, and be handled twice.
        max_ack_pending=concurrency,
    )


async def declare_consumer(jetstream: JetStreamContext, stream: str, wanted: ConsumerConfig) -> ConsumerInfo:
    """Create a consumer, or bring it up to date; where it began cannot be changed and stays."""
    assert wanted.durable_name
    try:
        known = (await jetstream.consumer_info(stream, wanted.durable_name)).config
    except NotFoundError:
        begin = datetime.now(UTC) - _LOOK_BACK
        return await jetstream.add_consumer(stream, replace(wanted, opt_start_time=begin))
    same_begin = replace(wanted, deliver_policy=known.deliver_policy, opt_start_time=known.opt_start_time)
    return await jetstream.add_consumer(stream, same_begin)
