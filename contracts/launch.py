"""What a dispatcher hands to a worker on rented machines: the assignment, or where it lies, and a way to the bus.

It travels as an argument of a remote call, so it is small and made of plain values; it holds secrets of one run.
"""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, SecretStr, model_validator

from contracts.assignment import Assignment

#: Arguments above 8 KiB take a detour over Modal's own storage (modal.md: MAX_ASYNC_OBJECT_SIZE_BYTES).
ARGUMENT_BYTES = 6 * 1024


class BusAccess(BaseModel):
    """How a run reaches its own job's events, and nothing else."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    kind: Literal["nats", "ingest"]
    #: Of NATS (``tls://`` or ``wss://``), or of the gateway (``https://``).
    url: str
    #: For NATS the text of a credentials file, for the gateway the token in it.
    secret: SecretStr
    #: The only inboxes that the credentials allow.
    inbox_prefix: str | None = None


class Launch(BaseModel):
    """One call of a worker's function."""

    #: What is wrong with a launch is logged where others may read; what stands in it is not.
    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    assignment: Assignment | None = None
    #: Where in the bucket the assignment lies, when it is too large for an argument.
    assignment_key: str | None = None
    bus: BusAccess

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.assignment is None) == (self.assignment_key is None):
            raise ValueError("a launch has an assignment or the key of one")
        return self

    def argument(self) -> dict[str, Any]:
        """Give it as plain values, secrets in clear: for the argument of the call and nothing else."""
        return self.model_dump(mode="json") | {
            "bus": self.bus.model_dump(mode="json") | {"secret": self.bus.secret.get_secret_value()}
        }
