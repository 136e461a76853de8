"""Errors of reactions: what a handler raises to give up, and what ends a bus."""

from __future__ import annotations

from contracts.errors import ErrorCode, SaccadeError


class Reject(Exception):  # noqa: N818 - a decision, not a fault
    """Raised by a handler: the event becomes a dead letter now, another attempt would not help."""


class ConsumerMissing(SaccadeError):  # noqa: N818 - an expected result, not a fault
    """The consumer of a reaction does not exist, and these credentials may not create it."""

    def __init__(self, consumer: str) -> None:
        super().__init__(
            ErrorCode.NOT_FOUND,
            f"There is no consumer {consumer}.",
            hint="Ask the operator to declare the consumers of this service, then start it again.",
        )


class StreamReplaced(Exception):  # noqa: N818 - an expected event, not a fault
    """The stream was deleted or created anew: the process must start again, without what it knows of the old one."""
