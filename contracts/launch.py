"""Launch of a worker on a rented machine: the assignment or its key in the bucket, and access to the bus.

It is the argument of a remote call, so it is small and consists of plain values; it contains secrets of one run.
"""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, SecretStr, model_validator

from contracts.assignment import Assignment

#: Limit of an argument: Modal stores arguments above 8 KiB elsewhere (MAX_ASYNC_OBJECT_SIZE_BYTES).
ARGUMENT_BYTES = 6 * 1024


class BusAccess(BaseModel):
    """Access of a run to its own job's events, and to nothing else."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    kind: Literal["nats", "ingest"]
    #: URL of NATS (``tls://`` or ``wss://``), or of the gateway (``https://``).
    url: str
    #: For NATS the content of a credentials file, for the gateway the token.
    secret: SecretStr
    #: Prefix of the only inboxes that the credentials allow.
    inbox_prefix: str | None = None


class Launch(BaseModel):
    """Argument of one call of a worker's function."""

    # Validation errors are logged where others may read them, so they must not contain the input.
    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    assignment: Assignment | None = None
    #: Key of the assignment in the bucket, if it is too large for an argument.
    assignment_key: str | None = None
    bus: BusAccess

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.assignment is None) == (self.assignment_key is None):
            raise ValueError("a launch has an assignment or the key of one")
        return self

    def argument(self) -> dict[str, Any]:
        """Return plain values with the secrets in clear text, only for the argument of the call."""
        return self.model_dump(mode="json") | {
            "bus": self.bus.model_dump(mode="json") | {"secret": self.bus.secret.get_secret_value()}
        }
