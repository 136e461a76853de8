"""``Prefer: wait=N`` (RFC 7240, section 4.3): how long a request may wait for what it asks about."""

from __future__ import annotations

import re
from typing import Annotated, Final

from fastapi import Header, Response

from contracts.limits import WAIT_S

_WAIT: Final = re.compile(r"(?:^|,)\s*wait\s*=\s*\"?(\d{1,6})\"?\s*(?:,|;|$)", re.IGNORECASE)

PreferHeader = Annotated[
    str | None, Header(description=f"`wait=N`: answer when it is so, or after N seconds, at most {WAIT_S}.")
]


def wait_of(prefer: str | None, response: Response) -> int:
    """Read how many seconds a client wants to wait, 0 where it does not, and say so in the answer."""
    found = _WAIT.search(prefer or "")
    if not found:
        return 0
    wait_s = min(int(found[1]), WAIT_S)
    response.headers["Preference-Applied"] = f"wait={wait_s}"
    return wait_s
