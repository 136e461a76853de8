"""The history of many jobs in a stream, in seconds: uploads and jobs that ended, and some that have not."""

from __future__ import annotations

import itertools
import json
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from contracts.events.base import decode
from kit.bus.connection import connect, declare
from kit.bus.jetstream_api import stream_info
from kit.bus.stream_copies import restore_stream
from kit.history.nats_archive import ArchiveBounds, ArchivedMessage, encode_archive
from kit.settings import NatsSettings
from tests.harness.history.stories import story

#: Time that the history takes.
SPAN: Final = timedelta(days=30)
#: Jobs at its end that wait for their next attempt.
UNFINISHED: Final = 200
_TENANTS: Final = 20
_WORKLOADS: Final = ("lap_compare", "nerf", "badminton", "rally_index")
_CHUNK_BYTES: Final = 4 * 1024 * 1024
_ID: Final = re.compile(rb"(job|upl|run|evt)_[0-9a-f-]{36}")


@dataclass(frozen=True)
class Template:
    """Events of one story, in pieces between its ids and times."""

    subjects: tuple[str, ...]
    bodies: tuple[bytes, ...]


def template(tenant: str, ends: str, workload: str) -> Template:
    """Return a story with places for ids, which are ``job``, ``upl``, ``run`` and ``evt``, and for times."""
    messages = story(tenant, ends=ends)
    bodies, subjects = [], []
    for message in messages:
        told = json.loads(message.body)["time"]
        body = message.body.replace(told.encode(), b"@time@").replace(b'"lap_compare"', f'"{workload}"'.encode())
        bodies.append(_ID.sub(rb"@\1@", body))
        subjects.append(_ID.sub(rb"@\1@", message.subject.encode()).decode())
        assert decode(message.body).tenant == tenant
    return Template(tuple(subjects), tuple(bodies))


def _tenant(number: int) -> str:
    """Return the tenant of a job: half of them belong to the one whose lists are asked for."""
    return "local" if number % 2 else f"tenant{number % _TENANTS}"


def stories(jobs: int, unfinished: int) -> Iterator[Template]:
    """Yield the story of each job."""
    kinds = [
        template(_tenant(number), ends, _WORKLOADS[number % len(_WORKLOADS)])
        for number in range(_TENANTS)
        for ends in ("succeeded", "succeeded", "failed")
    ]
    open_kinds = [template(_tenant(number), "never", "lap_compare") for number in range(_TENANTS)]
    for number in range(jobs):
        yield open_kinds[number % _TENANTS] if number >= jobs - unfinished else kinds[number % len(kinds)]


def history(jobs: int, unfinished: int) -> Iterator[tuple[str, bytes, datetime]]:
    """Yield subject, body and time of each event."""
    began, random_bits = datetime.now(UTC) - SPAN, itertools.count()
    for number, told in enumerate(stories(jobs, unfinished)):
        at = began + SPAN * (number / jobs)
        stamp = (int(at.timestamp() * 1000) << 80) | 0x7 << 76 | 0b10 << 62
        ids = {name: str(uuid.UUID(int=stamp | next(random_bits))) for name in ("job", "upl", "run")}
        for subject, body in zip(told.subjects, told.bodies, strict=True):
            filled = body.replace(b"@time@", at.isoformat().encode())
            for name, value in ids.items():
                filled = filled.replace(f"@{name}@".encode(), f"{name}_{value}".encode())
            event = f"evt_{uuid.UUID(int=stamp | next(random_bits))}".encode()
            place = subject.replace("@job@", f"job_{ids['job']}").replace("@upl@", f"upl_{ids['upl']}")
            yield place, filled.replace(b"@evt@", event), at


async def restore_history(
    settings: NatsSettings, folder: Path, jobs: int, *, unfinished: int = UNFINISHED
) -> dict[str, Any]:
    """Replace the stream of events by one with so many jobs; return its state.

    They are made before: the server gives up a restore that stands still for 5 s, as it may on a busy machine.
    """
    count = sum(len(told.subjects) for told in stories(jobs, unfinished))
    bounds, made = ArchiveBounds(1, count, 800 * count, count), folder / "history.natsarc"
    messages = (
        ArchivedMessage(number, subject, int(at.timestamp() * 1e9), body)
        for number, (subject, body, at) in enumerate(history(jobs, unfinished), start=1)
    )
    with made.open("wb") as file:
        file.writelines(encode_archive(bounds, messages))
    client = await connect(settings, "history")
    try:
        await declare(client)
        info = await stream_info(client, "EVENTS")
        await client.request("$JS.API.STREAM.DELETE.EVENTS", b"")
        with made.open("rb") as file:
            chunks = iter(lambda: file.read(_CHUNK_BYTES), b"")
            await restore_stream(client, info["config"], bounds.state(), chunks)
        made.unlink()
        restored = await stream_info(client, "EVENTS")
    finally:
        await client.close()
    state: dict[str, Any] = restored["state"]
    return state
