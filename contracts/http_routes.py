"""Routes of the one origin: the service that answers each path. deploy/origin.conf says the same to nginx."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, Literal

#: Services that clients reach through the origin.
RoutedService = Literal["gateway", "notifier"]

_NOTIFIER: Final = re.compile(
    r"/v1/(?:events|tickets|webhooks(?:/.*)?|replays(?:/.*)?|(?:jobs|sessions)/[^/]+/events)/?", re.DOTALL
)
_EVENT_STREAM: Final = re.compile(r"/v1/(?:events|(?:jobs|sessions)/[^/]+/events|replays/[^/]+/(?:events|stream))/?")
#: For operators, who read it at the services' own ports.
_METRICS: Final = "/metrics"


def service_of(path: str) -> RoutedService | None:
    """Return the service that answers a decoded path; None where the origin answers 404 itself."""
    if path.rstrip("/") == _METRICS:
        return None
    return "notifier" if _NOTIFIER.fullmatch(path) else "gateway"


def is_path_of(service: RoutedService) -> Callable[[str], bool]:
    """Return the function that tells whether a service answers a decoded path."""
    return lambda path: service_of(path) == service


def is_event_stream(path: str) -> bool:
    """Return whether a GET of this decoded path is answered by server-sent events."""
    return _EVENT_STREAM.fullmatch(path) is not None
