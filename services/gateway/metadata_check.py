"""Size of the metadata that clients give uploads, jobs, sessions and rules."""

from __future__ import annotations

import json
from collections.abc import Mapping

from contracts.errors import ErrorCode, SaccadeError
from contracts.limits import METADATA_BYTES


def check_metadata(metadata: Mapping[str, str]) -> None:
    """Reject metadata that is too large for an event.

    Raises:
        SaccadeError: INVALID_PARAMETER.
    """
    size = len(json.dumps(metadata))
    if size > METADATA_BYTES:
        message = f"metadata has {size} bytes as JSON; at most {METADATA_BYTES} are allowed."
        raise SaccadeError(
            ErrorCode.INVALID_PARAMETER, message, errors=[{"detail": message, "pointer": "#/metadata"}]
        )  # fmt: skip
