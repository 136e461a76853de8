"""End of a session: its transcript as artifacts, and its result."""

from __future__ import annotations

from collections.abc import Sequence

from contracts.events.base import EventData
from contracts.events.session import SessionAlert, SessionPromptRequested, SessionText
from modal_workers.runtime.sessions.live_context import LiveContext
from modal_workers.vision_stream.figures import StreamFigures
from modal_workers.vision_stream.key_frames import KeyFrames
from modal_workers.vision_stream.saving import SavedFrames
from modal_workers.vision_stream.spec import VisionStreamParams, VisionStreamResult
from modal_workers.vision_stream.transcript.files import write_transcript
from modal_workers.vision_stream.transcript.transcript import Transcript


def save_transcript(params: VisionStreamParams, context: LiveContext, model: str, key_frames: KeyFrames) -> None:
    """Write the transcript of all runs of the session and save its files.

    Raises:
        Stopped: the run was asked to stop.
        SaccadeError: STORAGE_UNAVAILABLE, BUS_UNAVAILABLE.
    """
    key_frames.save()
    key_frames.load()
    events = context.stored_events()
    transcript = Transcript(
        session_id=context.launch.session_id,
        opened_at=context.launch.opened_at,
        model=model,
        instruction=params.instruction,
        texts=_texts(events),
        alerts=[event for event in events if isinstance(event, SessionAlert)],
        totals=context.totals,
        key_frames=key_frames,
        questions={event.prompt_id: event.text for event in events if isinstance(event, SessionPromptRequested)},
    )
    folder = context.scratch / "transcript"
    folder.mkdir(exist_ok=True)
    for file in write_transcript(transcript, folder):
        context.save(file.path, file.name, file.media_type, title=file.title)


def end_without_model(params: VisionStreamParams, context: LiveContext) -> VisionStreamResult:
    """End a session whose model is not loaded, with the transcript of what earlier runs have said.

    Raises:
        Stopped: the run was asked to stop.
        SaccadeError: STORAGE_UNAVAILABLE, BUS_UNAVAILABLE.
    """
    figures, saved = StreamFigures(), SavedFrames(context)
    saved.resume()
    events = context.stored_events()
    chunks = figures.resume(event for event in events if isinstance(event, SessionText))
    figures.alerts = max((event.alert for event in events if isinstance(event, SessionAlert)), default=0)
    context.finish(0)
    save_transcript(params, context, params.model, saved.key_frames)
    return result_of(context, params.model, chunks, figures)


def result_of(context: LiveContext, model: str, chunks: int, figures: StreamFigures) -> VisionStreamResult:
    """Return the session's result."""
    return VisionStreamResult(
        reason=context.stop_reason,
        chunks=chunks,
        totals=context.totals,
        figures=figures.now(),
        model=model,
        texts=figures.texts,
        alerts=figures.alerts,
        failed_chunks=figures.failed,
        tokens=figures.tokens,
        answered_prompts=figures.answered,
        latency_p50_ms=figures.percentile_ms(0.5),
        latency_p95_ms=figures.percentile_ms(0.95),
    )


def _texts(events: Sequence[EventData]) -> list[SessionText]:
    """Return the texts in the order of their chunks, the first one of each."""
    texts: dict[int, SessionText] = {}
    for event in events:
        if isinstance(event, SessionText):
            texts.setdefault(event.chunk, event)
    return [texts[chunk] for chunk in sorted(texts)]
