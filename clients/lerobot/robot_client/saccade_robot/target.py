"""Where a session's telemetry goes: what ``POST /v1/sessions`` answered, as addresses and credentials."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class NatsTarget:
    """A session's subjects on NATS, and who may publish there."""

    url: str
    joints: str
    frames: str
    clock: str | None = None
    #: Text of a credentials file, or a user and a password; neither where the server asks for none.
    credentials: str | None = field(default=None, repr=False)
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    inbox_prefix: str | None = None


@dataclass(frozen=True)
class HttpTarget:
    """A session's addresses at the gateway, and the key for them."""

    joints: str
    frames: str
    clock: str
    key: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class IngestTarget:
    """Both ways to a session; either may be missing."""

    nats: NatsTarget | None = None
    http: HttpTarget | None = None
    session_id: str | None = None


#: The public name of ``IngestTarget``.
Target = IngestTarget


def target_of(session: Mapping[str, Any], base_url: str, key: str | None = None) -> IngestTarget:
    """Read a session as the API shows it; what is missing of ``ingest`` is made of the session's id."""
    ingest = session.get("ingest") or {}
    session_id = str(session["id"])
    http = ingest.get("http") or {}
    base_url = base_url.rstrip("/")
    path = f"/v1/sessions/{session_id}"

    def at(link: str) -> str:
        # Not urljoin: the server may stand below a path of its address.
        return base_url + link if link.startswith("/") else link

    return IngestTarget(
        nats=_nats(ingest.get("nats") or {}),
        http=HttpTarget(
            joints=at(str(http.get("joints") or f"{path}/joints")),
            frames=at(str(http.get("frames") or f"{path}/frames")),
            clock=at("/v1/clock"),
            key=key,
        ),
        session_id=session_id,
    )


def _nats(nats: Mapping[str, Any]) -> NatsTarget | None:
    subjects = nats.get("subjects") or {}
    # A websocket would need a further package, and HTTP goes wherever it goes.
    if not str(nats.get("url", "")).startswith(("nats://", "tls://")):
        return None
    if not subjects.get("joints") or not subjects.get("frames"):
        return None
    return NatsTarget(
        url=str(nats["url"]),
        joints=str(subjects["joints"]),
        frames=str(subjects["frames"]),
        clock=subjects.get("clock"),
        credentials=nats.get("credentials"),
        user=nats.get("user"),
        password=nats.get("password"),
        inbox_prefix=nats.get("inbox_prefix"),
    )
