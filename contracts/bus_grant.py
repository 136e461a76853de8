"""Rights on the bus that a token grants: subjects, tags and a name, with no knowledge of jobs or sessions."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BusGrant:
    """Rights of one bearer, besides receiving replies in an inbox of its own.

    ``contracts/worker_rights.py`` makes the grants; ``kit/auth/bus_token.py`` signs them.
    """

    #: Name of the NATS user; its inbox prefix is derived from it.
    name: str
    #: ``key:value`` pairs that identify the bearer.
    tags: tuple[str, ...]
    #: Subjects that the bearer may publish to or send requests to.
    publish: tuple[str, ...]
    #: Subjects that the bearer may subscribe to.
    subscribe: tuple[str, ...] = ()
    #: Whether the bearer may reply to requests that it receives, once each.
    allow_responses: bool = False
    #: Subscriptions at the same time: the inbox, and one more so that a client can open a new inbox before it closes
    #: the old one.
    max_subscriptions: int = 2
