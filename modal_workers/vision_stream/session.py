"""A vision stream session: show the model each chunk (``chunks.py``), say its answer, publish the rules' alerts."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import cv2

from contracts.events.session import SessionPromptRequested, SessionText
from modal_workers.runtime.sessions.live_context import LiveContext
from modal_workers.vision_stream.alerts import Alerts
from modal_workers.vision_stream.chunk_texts import ChunkTexts
from modal_workers.vision_stream.chunks import ChunkSource, ShownChunk
from modal_workers.vision_stream.ending import end_without_model, result_of, save_transcript
from modal_workers.vision_stream.figures import StreamFigures
from modal_workers.vision_stream.loading_progress import EndedWhileLoading
from modal_workers.vision_stream.models.model import WatchModel
from modal_workers.vision_stream.saving import SavedFrames
from modal_workers.vision_stream.spec import VisionStreamParams, VisionStreamResult

#: A question is answered from the last frames when no new ones have come for this long.
_PATIENCE_S: Final = 1.0
_POLL_S: Final = 0.05
#: Interval of the figures while nothing happens.
_REPORT_S: Final = 1.0


#: Loads the model of a session and tells its viewers how far it is.
ModelLoader = Callable[[VisionStreamParams, LiveContext], WatchModel]


def run(params: VisionStreamParams, context: LiveContext) -> VisionStreamResult:
    """Describe a live video until the session ends.

    Raises:
        SaccadeError: MODEL_FILE_INVALID, BACKEND_NOT_INSTALLED; OUT_OF_MEMORY; the error of the model when it fails
            again and again; STORAGE_UNAVAILABLE, BUS_UNAVAILABLE, if they stay unavailable.
    """
    # Imported here: it takes seconds, and tests bring a model of their own.
    from modal_workers.vision_stream.model_loading import load  # noqa: PLC0415

    return run_with(load, params, context)


def run_with(load: ModelLoader, params: VisionStreamParams, context: LiveContext) -> VisionStreamResult:
    """Describe a live video with the model that ``load`` returns, as ``run``."""
    cv2.setNumThreads(1)
    with context.stage("watch"):
        try:
            model = load(params, context)
        except EndedWhileLoading:
            return end_without_model(params, context)
        context.restart_idle_time()
        try:
            return VisionStream(params, context, model).run()
        finally:
            model.close()


class VisionStream:
    """State of one session."""

    def __init__(self, params: VisionStreamParams, context: LiveContext, model: WatchModel) -> None:
        """Start with an empty memory."""
        self._params, self._context, self._model = params, context, model
        self._chunks = ChunkSource(params, context)
        self._texts = ChunkTexts(params, context, model)
        self._alerts = Alerts(params, context)
        self._figures = StreamFigures()
        self._saved = SavedFrames(context)
        #: Number of the newest chunk.
        self._chunk = 0
        self._asked_at_s: float | None = None
        self._reported_at_s = 0.0

    def run(self) -> VisionStreamResult:
        """Continue after the texts of earlier runs, and describe chunks until the session ends."""
        try:
            if self._context.texts:
                self._resume()
            while not self._context.ending:
                if self._texts.take_reset():
                    self._reset()
                prompt = next(iter(self._context.prompts), None)
                chunk = self._next_chunk(prompt)
                if chunk is not None:
                    self._describe(chunk, prompt)
                self._saved.save_if_due()
                self._report(chunk)
        finally:
            self._texts.close()
        self._context.finish(0)
        save_transcript(self._params, self._context, self._model.name, self._saved.key_frames)
        return result_of(self._context, self._model.name, self._chunk, self._figures)

    def _resume(self) -> None:
        """Continue after what earlier runs have said."""
        events = self._context.stored_events()
        texts = [event for event in events if isinstance(event, SessionText)]
        self._chunk = self._figures.resume(texts)
        self._texts.resume(self._context.past_texts)
        self._chunks.resume(texts, self._context.past_frames)
        self._saved.resume()
        self._alerts.resume(events, self._chunks.last)
        self._figures.alerts = self._alerts.count

    def _next_chunk(self, prompt: SessionPromptRequested | None) -> ShownChunk | None:
        """Return the next chunk; for a question the last one again, when no new frames have come."""
        chunk = self._chunks.next(_POLL_S, is_urgent=prompt is not None)
        if prompt is None or chunk is not None:
            self._asked_at_s = None
            return chunk
        self._asked_at_s = self._asked_at_s or time.monotonic()
        if time.monotonic() - self._asked_at_s < _PATIENCE_S:
            return None
        self._asked_at_s = None
        return self._chunks.again()

    def _describe(self, chunk: ShownChunk, prompt: SessionPromptRequested | None) -> None:
        """Publish the text of one chunk, then the alerts that it causes."""
        self._chunk += 1
        text = self._texts.describe(chunk, self._chunk, prompt)
        self._context.say(text)
        self._saved.add(self._chunk, chunk)
        self._figures.add(text, live=True)
        self._alerts.update(text, chunk)
        self._figures.alerts = self._alerts.count

    def _reset(self) -> None:
        """Forget what was seen and said; the numbers of chunks and alerts go on."""
        self._saved.key_frames.save()  # frames before the position, which is saved below, are not read again
        self._texts.reset()
        self._alerts.reset()
        self._chunks.last = None
        state = self._context.scratch / "state"
        state.write_bytes(b"")
        self._context.save_after_reset(state)

    def _report(self, chunk: ShownChunk | None) -> None:
        """Report figures after each chunk, and from time to time without one."""
        if chunk is None and time.monotonic() - self._reported_at_s < _REPORT_S:
            return
        self._reported_at_s = time.monotonic()
        asked = {"prompts": len(self._context.prompts)}
        figures = self._texts.figures() | self._figures.now() | asked
        self._context.report({"state": "watching"} | figures, frame=None if chunk is None else chunk.newest)
