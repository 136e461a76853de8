"""Headers that an endpoint may set, and those that only the sender sets."""

from __future__ import annotations

import re
from typing import Any, Final

from kit.http.openapi import any_case

#: Headers that frame the request or name the sender: an endpoint's value for them is never sent.
FRAMING_HEADERS: Final = frozenset({
    "accept-encoding", "connection", "content-encoding", "content-length", "content-type", "expect", "host",
    "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "user-agent",
})  # fmt: skip
_RESERVED_PREFIXES: Final = ("webhook-", "saccade-", "proxy-")
_NAME: Final = r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}$"
_VALUE: Final = r"^[!-~]([ -~]{0,1022}[!-~])?$"
_RESERVED: Final = (
    f"^({'|'.join(map(any_case, sorted(FRAMING_HEADERS)))})$|^({'|'.join(map(any_case, _RESERVED_PREFIXES))})"
)
#: JSON Schema of the headers, as they are checked below.
HEADERS_SCHEMA: Final[dict[str, Any]] = {
    "propertyNames": {"pattern": _NAME, "not": {"pattern": _RESERVED}},
    "additionalProperties": {"type": "string", "pattern": _VALUE},
}


def is_reserved_header(name: str) -> bool:
    """Return whether an endpoint's own headers may not include this name."""
    return re.search(_RESERVED, name) is not None


def check_headers(headers: dict[str, str]) -> dict[str, str]:
    """Return an endpoint's own headers if they are allowed.

    Raises:
        ValueError: a name or value is invalid, reserved or repeated; the message says which.
    """
    for name, value in headers.items():
        if not re.fullmatch(_NAME, name):
            raise ValueError(f"{name[:80]!r} is not a valid header name")
        if is_reserved_header(name):
            raise ValueError(f"{name}: this header is set by Saccade and cannot be changed")
        if not re.fullmatch(_VALUE, value):
            raise ValueError(f"{name}: a value is 1 to 1024 printable ASCII characters, without spaces at its ends")
    if len({name.lower() for name in headers}) < len(headers):
        raise ValueError("two headers have the same name")
    return headers
