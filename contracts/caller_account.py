"""Modal account that a caller brings with its session, and how the dispatcher asks the gateway for it.

The account is in the memory of the gateway that holds the caller's connection and, while it launches and ends the
worker, in that of the dispatcher. No event, log or file contains it: the answer is sealed for the one that asked.
"""

from __future__ import annotations

import json
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints

#: Subjects of the requests, core NATS without a stream: ``saccade.account.<job id>``.
CALLER_ACCOUNTS: Final = "saccade.account."

#: Names of apps at Modal, and of functions and classes in them.
MODAL_APP: Final = "[A-Za-z0-9][A-Za-z0-9._-]{0,62}"
MODAL_FUNCTION: Final = "[A-Za-z_][A-Za-z0-9_]{0,62}"

_Token = Annotated[SecretStr, Field(min_length=1, max_length=256)]


class CallerAccount(BaseModel):
    """Token of a Modal account, and the names under which the worker is deployed there, if they differ from ours."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    token_id: _Token
    token_secret: _Token
    app_name: Annotated[str, StringConstraints(pattern=f"^{MODAL_APP}$")] | None = None
    function_name: Annotated[str, StringConstraints(pattern=f"^{MODAL_FUNCTION}$")] | None = None

    def plain(self) -> bytes:
        """Return the account with its secrets, as JSON, to be sealed at once."""
        shown = {
            "token_id": self.token_id.get_secret_value(),
            "token_secret": self.token_secret.get_secret_value(),
            "app_name": self.app_name,
            "function_name": self.function_name,
        }
        return json.dumps(shown).encode()


class CallerAccountRequest(BaseModel):
    """Request for the account of a job: the public key (X25519, 32 bytes in hexadecimal) to seal the answer for."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    public_key: str = Field(pattern=r"^[0-9a-f]{64}$")


def account_subject(job_id: str) -> str:
    """Return the subject on which the gateway that holds a job's account answers."""
    return f"{CALLER_ACCOUNTS}{job_id}"
