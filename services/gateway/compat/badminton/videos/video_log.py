"""Log of a video as the page reads it, from the events of its job. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from pydantic import ValidationError

from contracts.events import Envelope
from contracts.events import job as events
from contracts.workload import Stage
from modal_workers.badminton.spec import BadmintonResult
from services.gateway.compat.badminton.videos.video_rows import Video, milliseconds

#: Entries of a log that the page gets: the newest.
LOG_ENTRIES: Final = 100
_MAX_CHARS: Final = 500
#: Category of a stage's entries; the page has a symbol for each.
_CATEGORIES: Final = {"court": "court", "detect": "detection", "track": "detection"}
_PROCESSING: Final = "processing"

#: Text, level and category of an entry.
_Told = tuple[str, str, str]


def video_entries(video: Video) -> list[dict[str, Any]]:
    """Return the entries of a video itself."""
    upload, found = video.upload, []
    message = f'Video "{video.record.filename}" uploaded successfully'
    found.append(_entry(f"{upload.id}.uploaded", video.record.created_at, (message, "success", _PROCESSING)))
    if saved := video.keypoints:
        told = ("Manual court keypoints saved", "info", "court")
        found.append(_entry(f"{upload.id}.keypoints", saved.saved_at, told))
    return found


def job_entries(envelope: Envelope, sequence: int, stages: Sequence[Stage]) -> list[dict[str, Any]]:
    """Return the entries of one event of the job; ``stages`` are those of its workload."""
    handler = HANDLERS.get(envelope.type)
    told = handler(envelope.parsed(), stages) if handler else ()
    return [
        _entry(f"{envelope.subject}.{sequence}.{number}", envelope.time, entry) for number, entry in enumerate(told)
    ]


def newest(entries: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the newest entries, oldest first."""
    return sorted(entries, key=lambda entry: int(entry["timestamp"]))[-LOG_ENTRIES:]


def _entry(entry_id: str, at: datetime, told: _Told) -> dict[str, Any]:
    message, level, category = told
    return {
        "_id": entry_id,
        "_creationTime": milliseconds(at),
        "message": message[:_MAX_CHARS],
        "level": level,
        "category": category,
        "timestamp": milliseconds(at),
    }


def _submitted(data: events.JobSubmitted, stages: Sequence[Stage]) -> Iterable[_Told]:  # noqa: ARG001
    yield "Starting video analysis...", "info", _PROCESSING
    if data.params.get("court_keypoints"):
        yield "The manual court keypoints are used", "info", "court"


def _waiting(data: events.JobWaitingForGpu, stages: Sequence[Stage]) -> Iterable[_Told]:  # noqa: ARG001
    yield f"Waiting for a {data.device}: {data.waited_s:.0f} s so far", "warning", "modal"


def _started(data: events.JobStarted, stages: Sequence[Stage]) -> Iterable[_Told]:
    yield f"A worker has started on {data.device}", "success", "modal"
    yield from _stage_started(stages, 0)


def _stage_completed(data: events.JobStageCompleted, stages: Sequence[Stage]) -> Iterable[_Told]:
    names = [stage.name for stage in stages]
    if data.stage in names:
        number = names.index(data.stage)
        text = f"{stages[number].title}: done in {data.duration_s:.1f} s"
        yield text, "success", _CATEGORIES.get(data.stage, _PROCESSING)
        yield from _stage_started(stages, number + 1)


def _stage_started(stages: Sequence[Stage], number: int) -> Iterable[_Told]:
    if number < len(stages):
        stage = stages[number]
        yield f"{stage.title}...", "info", _CATEGORIES.get(stage.name, _PROCESSING)


def _artifact_ready(data: events.JobArtifactReady, stages: Sequence[Stage]) -> Iterable[_Told]:  # noqa: ARG001
    yield f"{data.artifact.name} is ready", "debug", _PROCESSING


def _interrupted(data: events.JobInterrupted, stages: Sequence[Stage]) -> Iterable[_Told]:  # noqa: ARG001
    yield f"Attempt {data.attempt} ended: {data.error.message}", "warning", "modal"


def _retrying(data: events.JobRetrying, stages: Sequence[Stage]) -> Iterable[_Told]:  # noqa: ARG001
    yield f"Trying again in {data.delay_s:.0f} s", "warning", "modal"


def _succeeded(data: events.JobSucceeded, stages: Sequence[Stage]) -> Iterable[_Told]:  # noqa: ARG001
    """Yield also what the result warns of, and what is missing in it."""
    try:
        result = BadmintonResult.model_validate(data.result)
    except ValidationError:
        result = None  # of another version of the workload
    for warning in result.warnings if result else ():
        yield warning, "warning", _PROCESSING
    for part in result.missing if result else ():
        yield f"No {part.part}: {part.reason}", "warning", "court" if part.part == "court" else "detection"
    yield "Analysis complete! Results ready.", "success", _PROCESSING


def _failed(data: events.JobFailed, stages: Sequence[Stage]) -> Iterable[_Told]:  # noqa: ARG001
    yield f"Processing failed: {data.error.message}", "error", _PROCESSING


def _says(told: _Told) -> Callable[[Any, Sequence[Stage]], Iterable[_Told]]:
    return lambda _, __: (told,)


#: What the events say; those that are left out say nothing to a user.
HANDLERS: Final[Mapping[str, Callable[[Any, Sequence[Stage]], Iterable[_Told]]]] = {
    events.JobSubmitted.type: _submitted,
    events.JobLaunched.type: _says(("A worker is being started", "info", "modal")),
    events.JobWaitingForGpu.type: _waiting,
    events.JobStarted.type: _started,
    events.JobStageCompleted.type: _stage_completed,
    events.JobArtifactReady.type: _artifact_ready,
    events.JobInterrupted.type: _interrupted,
    events.JobRetrying.type: _retrying,
    events.JobCancelRequested.type: _says(("Cancellation was requested", "warning", _PROCESSING)),
    events.JobSucceeded.type: _succeeded,
    events.JobFailed.type: _failed,
    events.JobCancelled.type: _says(("The analysis was cancelled", "error", _PROCESSING)),
}
