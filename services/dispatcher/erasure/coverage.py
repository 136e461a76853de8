"""Coverage of an erasure: messages by stream, and objects of the bucket. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Final

from contracts.callback import callback_subject
from contracts.erasure import ErasureRequest
from contracts.ids import STAGE_PREFIX, is_job_id, pipeline_id_of
from contracts.session import job_id_of_session, session_id_of_job
from contracts.streams import (
    CALLBACKS,
    CAPTIONS,
    DEADLETTERS,
    DELIVERIES,
    EVENTS,
    FETCHES,
    PROGRESS,
    REPLAYS,
    RULE_COUNTS,
    TELEMETRY,
    WEBHOOKS,
)
from kit.bus.event_store import StoredEvent

#: Tells whether a message that matches a filter is covered.
Chooses = Callable[[StoredEvent], bool]
#: Position of the notifier's sender, on a subject of this form though it is of no tenant.
_NO_TENANT: Final = "saccade.whk.engine.position"


@dataclass(frozen=True)
class Covered:
    """Messages of one stream: those that match a filter and are chosen."""

    stream: str
    subjects: str
    chooses: Chooses = lambda _: True


def own_events(request: ErasureRequest) -> list[Covered]:
    """Return the events of what is erased, in the stream EVENTS, which tell of jobs and files besides."""
    tenant = request.tenant
    if request.scope == "tenant":
        return [Covered(EVENTS.name, f"saccade.evt.{tenant}.>")]
    found: list[Covered] = []
    for job_id in erased_jobs(request):
        found.append(Covered(EVENTS.name, f"saccade.evt.{tenant}.job.{job_id}.*"))
        found.append(Covered(EVENTS.name, f"saccade.evt.{tenant}.session.{session_id_of_job(job_id)}.*"))
    if request.scope == "upload":
        upload_id = request.subject_id or ""
        found.append(Covered(EVENTS.name, f"saccade.evt.{tenant}.upload.{upload_id}.*"))
        joined = f"saccade.evt.{tenant}.group.*.upload_added"
        found.append(Covered(EVENTS.name, joined, lambda stored: _data(stored).get("upload_id") == upload_id))
    return found


def events_of_stages(request: ErasureRequest, job_ids: Collection[str]) -> list[Covered]:
    """Return the events of the jobs that were found by their submissions.

    The submissions come last: while one is there, an erasure that is repeated finds the job's other events by it.
    """
    stages = sorted(set(job_ids) - set(erased_jobs(request))) if request.scope != "tenant" else []
    subjects = [f"saccade.evt.{request.tenant}.job.{job_id}" for job_id in stages]
    others = [Covered(EVENTS.name, f"{subject}.*", _is_no_submission) for subject in subjects]
    return others + [Covered(EVENTS.name, f"{subject}.submitted") for subject in subjects]


def _is_no_submission(stored: StoredEvent) -> bool:
    return not stored.subject.endswith(".submitted")


def stage_submissions(request: ErasureRequest) -> Covered:
    """Return the events that submitted the stages' jobs of the jobs that are erased."""
    jobs = set(erased_jobs(request))

    def of_erased(stored: StoredEvent) -> bool:
        job_id = stored.subject.split(".")[4]
        return job_id.startswith(STAGE_PREFIX) and pipeline_id_of(job_id) in jobs

    return Covered(EVENTS.name, f"saccade.evt.{request.tenant}.job.*.submitted", of_erased)


def other_messages(request: ErasureRequest, job_ids: Collection[str]) -> list[Covered]:
    """Return the messages of all other streams; ``job_ids`` are all jobs that are erased, with those of stages."""
    tenant, ids = request.tenant, {*job_ids, *([request.subject_id] if request.subject_id else [])}
    ids |= set(map(session_id_of_job, erased_jobs(request)))
    dead = Covered(DEADLETTERS.name, "saccade.dlq.>", lambda stored: _is_dead_letter_of(stored, tenant, ids))
    if request.scope == "tenant":
        names = {PROGRESS: "prog", TELEMETRY: "tele", FETCHES: "fetch", RULE_COUNTS: "cnt", WEBHOOKS: "whk"}
        names |= {DELIVERIES: "dlv", CALLBACKS: "cbk", CAPTIONS: "cap"}
        of_tenant = [
            Covered(stream.name, f"saccade.{kind}.{tenant}.>", lambda stored: stored.subject != _NO_TENANT)
            for stream, kind in names.items()
        ]
        dead = Covered(DEADLETTERS.name, "saccade.dlq.>", lambda stored: _is_dead_letter_of(stored, tenant, None))
        return [*of_tenant, Covered(REPLAYS.name, f"saccade.rpl.*.*.{tenant}.>"), dead]
    found = [Covered(PROGRESS.name, f"saccade.prog.{tenant}.job.{job_id}.*") for job_id in job_ids]
    for session_id in map(session_id_of_job, erased_jobs(request)):
        found.append(Covered(PROGRESS.name, f"saccade.prog.{tenant}.session.{session_id}.*"))
        found.append(Covered(TELEMETRY.name, f"saccade.tele.{tenant}.session.{session_id}.*"))
    records = f"saccade.dlv.{tenant}.>"
    copies = f"saccade.rpl.*.*.{tenant}.*.*.*"
    found.append(Covered(REPLAYS.name, copies, lambda stored: stored.subject.split(".")[6] in ids))
    found.append(Covered(DELIVERIES.name, records, lambda stored: _data(stored).get("event_subject") in ids))
    if request.scope == "upload" and request.subject_id:
        found.append(Covered(FETCHES.name, f"saccade.fetch.{tenant}.*.{request.subject_id}"))
        found.append(Covered(CALLBACKS.name, callback_subject(tenant, request.subject_id)))
    return [*found, dead]


def folders(request: ErasureRequest, job_ids: Collection[str]) -> list[tuple[str, ...]]:
    """Return the folders of the bucket, as parts of keys."""
    found: list[tuple[str, ...]] = [(kind, job_id) for job_id in sorted(job_ids) for kind in ("results", "scratch")]
    if request.scope == "tenant":
        found.append(("uploads", request.tenant))
    elif request.scope == "upload":
        found.append(("uploads", request.tenant, request.subject_id or ""))
    return found


def erased_jobs(request: ErasureRequest) -> list[str]:
    """Return the jobs that a request names."""
    named = [request.subject_id] if request.scope == "job" and request.subject_id else []
    return [*named, *request.job_ids]


def job_of(subject: str) -> str | None:
    """Return the id of the job that an event is about; None if it is about none."""
    parts = subject.split(".")
    return parts[4] if len(parts) > 4 and parts[3] == "job" and is_job_id(parts[4]) else None


def covers_event(request: ErasureRequest, job_ids: Collection[str], subject: str, body: bytes) -> bool:
    """Return whether an event of the archive is covered."""
    parts = subject.split(".")
    if len(parts) < 6 or parts[2] != request.tenant:
        return False
    if request.scope == "tenant" or parts[4] in job_ids or parts[4] == request.subject_id:
        return True
    if parts[3] == "session":
        return job_id_of_session(parts[4]) in job_ids
    added = parts[3] == "group" and parts[5] == "upload_added"  # all that goes in EVENTS: other uploads need the rest
    return added and request.scope == "upload" and (request.subject_id or "").encode() in body


def _is_dead_letter_of(stored: StoredEvent, tenant: str, ids: Collection[str] | None) -> bool:
    parts = stored.headers.get("Saccade-Subject", "").split(".")
    if len(parts) < 5 or parts[2] != tenant:
        return False
    return ids is None or parts[4] in ids or _data(stored).get("event_subject") in ids


def _data(stored: StoredEvent) -> dict[str, Any]:
    try:
        data = json.loads(stored.body)["data"]
    except (ValueError, KeyError, TypeError):
        return {}
    return data if isinstance(data, dict) else {}
