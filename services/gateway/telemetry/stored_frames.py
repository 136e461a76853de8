"""A session's frames in the telemetry stream: how many, and the newest."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Final

import nats.errors
from nats.aio.client import Client

from contracts.errors import ErrorCode, SaccadeError
from contracts.picture_header import read_picture_header
from contracts.session import Session, telemetry_subject
from contracts.streams import EVENTS, TELEMETRY
from kit.bus.connection import request
from kit.bus.event_store import EventStore

_REQUEST_TIMEOUT_S: Final = 5.0


async def count_stored_frames(client: Client, session: Session) -> int:
    """Return the number of frames of a session that are still stored.

    Raises:
        SaccadeError: BUS_UNAVAILABLE.
    """
    subject = telemetry_subject(session.tenant, session.id, "frames")
    info = await request(client, f"STREAM.INFO.{TELEMETRY.name}", {"subjects_filter": subject})
    return int(((info.get("state") or {}).get("subjects") or {}).get(subject, 0))


async def count_frames_since(client: Client, session: Session, sequence: int) -> int:
    """Return the number of stored frames of a session that are newer than the event with this sequence.

    Raises:
        SaccadeError: BUS_UNAVAILABLE.
    """
    event = (await request(client, f"STREAM.MSG.GET.{EVENTS.name}", {"seq": sequence})).get("message")
    if event is None:  # the event has expired, and so have all frames before it
        return await count_stored_frames(client, session)
    subject = telemetry_subject(session.tenant, session.id, "frames")
    query = {"batch": 1, "next_by_subj": subject, "start_time": event["time"]}
    try:
        # The answer's header has the number of messages after the first one (NATS ADR-31).
        reply = await client.request(
            f"$JS.API.DIRECT.GET.{TELEMETRY.name}", json.dumps(query).encode(), timeout=_REQUEST_TIMEOUT_S
        )
    except (TimeoutError, nats.errors.Error) as error:
        raise SaccadeError(ErrorCode.BUS_UNAVAILABLE) from error
    headers = reply.headers or {}
    return 0 if "Status" in headers else 1 + int(headers["Nats-Num-Pending"])


async def newest_frame(client: Client, session: Session) -> tuple[bytes, str]:
    """Return the newest stored frame of a session, and its media type.

    Raises:
        SaccadeError: SESSION_NOT_STARTED, if none is stored or the newest is no picture; BUS_UNAVAILABLE.
    """
    subject = telemetry_subject(session.tenant, session.id, "frames")
    for stored in await EventStore(client, TELEMETRY.name).load(subject, with_headers=True):
        # By its own header: a robot that sends over NATS may declare any media type, and browsers open this address.
        with suppress(ValueError):
            return stored.body, read_picture_header(stored.body).content_type
    raise SaccadeError(ErrorCode.SESSION_NOT_STARTED, "No frame of the session is stored.")
