"""Addresses and credentials of a session's telemetry, from the answer of ``POST /v1/sessions``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class NatsTarget:
    """A session's NATS subjects, and the credentials for publishing."""

    url: str
    joints: str
    frames: str
    clock: str | None = None
    #: Text of a credentials file, or a user and a password; neither if the server needs none.
    credentials: str | None = field(default=None, repr=False)
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    inbox_prefix: str | None = None


@dataclass(frozen=True)
class HttpTarget:
    """A session's addresses at the gateway, and the API key."""

    joints: str
    frames: str
    clock: str
    key: str | None = field(default=None, repr=False)
    #: The session itself, whose counts tell what became of the frames.
    session: str | None = None


@dataclass(frozen=True)
class IngestTarget:
    """NATS and HTTP route to a session; either may be missing."""

    nats: NatsTarget | None = None
    http: HttpTarget | None = None
    session_id: str | None = None


#: The public name of ``IngestTarget``.
Target = IngestTarget


def target_of(session: Mapping[str, Any], base_url: str, key: str | None = None) -> IngestTarget:
    """Return the target of a session view; addresses missing in ``ingest`` are derived from the session's id."""
    ingest = session.get("ingest") or {}
    session_id = str(session["id"])
    http = ingest.get("http") or {}
    base_url = base_url.rstrip("/")
    path = f"/v1/sessions/{session_id}"

    def at(link: str) -> str:
        # Not urljoin: the server's address may contain a path.
        return base_url + link if link.startswith("/") else link

    return IngestTarget(
        nats=_nats(ingest.get("nats") or {}),
        http=HttpTarget(
            joints=at(str(http.get("joints") or f"{path}/joints")),
            frames=at(str(http.get("frames") or f"{path}/frames")),
            clock=at("/v1/clock"),
            key=key,
            session=at(path),
        ),
        session_id=session_id,
    )


def _nats(nats: Mapping[str, Any]) -> NatsTarget | None:
    subjects = nats.get("subjects") or {}
    # NATS over WebSocket would need another package, and HTTP reaches the same networks.
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
