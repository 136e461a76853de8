"""``Prefer: wait=N`` (RFC 7240, section 4.3): time that the client allows for the answer."""

from __future__ import annotations

import re
from typing import Annotated, Final

from fastapi import Header, Response

from contracts.limits import WAIT_S

_WAIT: Final = re.compile(r"(?:^|,)\s*wait\s*=\s*\"?(\d{1,6})\"?\s*(?:,|;|$)", re.IGNORECASE)

PreferHeader = Annotated[
    str | None,
    Header(description=f"`wait=N`: answer when the state is reached, or after N seconds, at most {WAIT_S}."),
]


def apply_wait(prefer: str | None, response: Response) -> int:
    """Return the seconds that the client wants to wait, 0 if none, and confirm them in the response headers."""
    found = _WAIT.search(prefer or "")
    if not found:
        return 0
    wait_s = min(int(found[1]), WAIT_S)
    response.headers["Preference-Applied"] = f"wait={wait_s}"
    return wait_s
