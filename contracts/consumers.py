"""Names and rights of the durable consumers that reactions read from; no library is needed to know them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from contracts.bus_grant import BusGrant
from contracts.streams import EVENTS

#: Beginning of JetStream's requests: in the account of Saccade's services, and in the account of users' own services,
#: which imports those for consumers under this name (deploy/nats_operator.py).
JETSTREAM_API: Final = "$JS.API"
USER_SERVICE_API: Final = "saccade.js"
#: Names of services: they are part of subjects and of consumers' names.
SERVICE_PATTERN: Final = r"^[a-z][a-z0-9-]{0,31}$"


def consumer_name(service: str, event_type: str) -> str:
    """Return the name of the consumer by which a service reacts to an event, such as ``billing-job-succeeded``.

    The durable consumer of this name holds the reaction's position. The name depends on service and event only, so code
    can be renamed.

    Raises:
        ValueError: this is not a service's name.
    """
    if not re.fullmatch(SERVICE_PATTERN, service):
        raise ValueError(f"not a service's name: {service!r}; it must match {SERVICE_PATTERN}")
    return f"{service}-{event_type.replace('.', '-')}"


def dead_letter_subject(stream: str, consumer: str) -> str:
    """Return the subject of the dead letters of a consumer, or of a tail by its name."""
    return f"saccade.dlq.{stream}.{consumer}"


def service_grant(
    service: str, event_types: Iterable[str], stream: str = EVENTS.name, api: str = JETSTREAM_API
) -> BusGrant:
    """Return the grant of a service that reacts to some events: its own consumers, acknowledgements and dead letters.

    It cannot create consumers: who may do so can have any bytes sent to any subject (docs/adr/0005). An operator
    creates them. ``api`` is the beginning of JetStream's requests in the account of the service's user.
    """
    consumers = [consumer_name(service, event_type) for event_type in event_types]
    return BusGrant(
        name=service,
        tags=(f"service:{service}", f"api:{api}"),
        publish=tuple(
            subject
            for consumer in consumers
            for subject in (
                f"{api}.CONSUMER.INFO.{stream}.{consumer}",
                f"{api}.CONSUMER.MSG.NEXT.{stream}.{consumer}",
                f"$JS.ACK.{stream}.{consumer}.>",
                dead_letter_subject(stream, consumer),
            )
        ),
        # An inbox for replies, and one for each consumer; twice, so that a client can open new ones before it closes
        # the old ones.
        max_subscriptions=2 * (1 + len(consumers)),
    )
