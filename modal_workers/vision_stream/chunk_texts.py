"""One inference: the request of a chunk, its text while it is generated, and the event that it ends with."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import time
from collections.abc import Sequence
from typing import Any, Final

from contracts.errors import ErrorBody, SaccadeError
from contracts.events.session import SessionPromptRequested, SessionText, SessionTextDelta, TextLatency
from modal_workers.runtime.jobs.failure import classify
from modal_workers.runtime.sessions.live_context import LiveContext
from modal_workers.vision_stream.chunks import ShownChunk
from modal_workers.vision_stream.models.model import ChunkAnswer, ChunkRequest, PastText, WatchModel
from modal_workers.vision_stream.spec import VisionStreamParams

log = logging.getLogger(__name__)

#: Chunks in a row whose inference failed, after which the session fails.
_FAILURES: Final = 5
#: How long a text that is being generated may take after the end of the session was requested.
_LAST_WORDS_S: Final = 2.0
#: Shortest interval of two parts of a text.
_DELTA_S: Final = 0.1
#: Version of the form in which models/prompts.py puts a request into words; part of ``prompt_version``.
_FORM: Final = 1


class ChunkTexts:
    """Texts of one run, one at a time, from the model's memory of this session."""

    def __init__(self, params: VisionStreamParams, context: LiveContext, model: WatchModel) -> None:
        """Start with an empty memory."""
        self._params, self._context, self._model = params, context, model
        self._session = model.open_session(params.memory, history_texts=params.history_texts)
        self._newest: ChunkAnswer | None = None
        self._failures = 0
        self._reset_requested = False
        self._ending_since_s: float | None = None

    def resume(self, past: Sequence[SessionText]) -> None:
        """Start with the texts of earlier runs as the memory."""
        self._session.prime(
            [
                PastText(text.start_s or 0.0, text.end_s or 0.0, text.text)
                for text in past
                if text.text and text.finish_reason != "cancelled"
            ]
        )

    def reset(self) -> None:
        """Start again with an empty memory."""
        self._reset_requested = False
        self._session.close()
        self._session = self._model.open_session(self._params.memory, history_texts=self._params.history_texts)

    def close(self) -> None:
        """Free the memory."""
        self._session.close()

    def take_reset(self) -> bool:
        """Return whether a reset was requested that ``reset`` has not done yet."""
        self._reset_requested = self._reset_requested or self._context.take_reset()
        return self._reset_requested

    def describe(self, chunk: ShownChunk, number: int, prompt: SessionPromptRequested | None) -> SessionText:
        """Show the model a chunk and return its text, also one without words if the inference fails.

        Raises:
            SaccadeError: OUT_OF_MEMORY, at once: a larger GPU is needed; another one after five failures in a row.
            Stopped: the run was asked to stop.
        """
        try:
            text = self._generate(chunk, number, prompt)
        except Exception as error:  # noqa: BLE001 - the stream goes on, unless it fails again and again
            update = {"finish_reason": "error", "error": self._failed(error, asked=prompt is not None)}
            return self._text(chunk, number, prompt).model_copy(update=update)
        return self._with_rules(text, is_shown_again=chunk.arrived_at_s is None)

    def figures(self) -> dict[str, Any]:
        """Return the names of what describes, and the figures of the newest text that only the model knows."""
        params = self._params
        figures: dict[str, Any] = {"model": self._model.name, "memory": params.memory, "backend": params.backend}
        if self._newest is not None:
            figures |= {"prompt_tokens": self._newest.prompt_tokens, "cached_tokens": self._newest.cached_tokens}
        return figures

    def _generate(self, chunk: ShownChunk, number: int, prompt: SessionPromptRequested | None) -> SessionText:
        """Return the text for a chunk; its parts are published while they are generated."""
        began_s, cancelled_before = time.time(), self._context.cancel_sequence

        def is_cancelled() -> bool:
            if self._context.ending:
                self._ending_since_s = self._ending_since_s or time.monotonic()
                if time.monotonic() - self._ending_since_s > _LAST_WORDS_S:
                    return True
            return self._context.cancel_sequence > cancelled_before or self.take_reset()

        deltas = _Deltas(self._context, number, prompt)
        started_s = time.perf_counter()
        answer = self._session.watch(self._request(chunk, prompt), deltas.add, is_cancelled)
        total_ms = 1e3 * (time.perf_counter() - started_s)
        self._newest = answer
        latency = TextLatency(
            queue_ms=_queue_ms(chunk, began_s),
            prefill_ms=round(answer.prefill_ms, 2),
            decode_ms=round(answer.decode_ms, 2),
            first_token_ms=round(answer.first_token_ms, 2),
            total_ms=round(total_ms, 2),
        )
        return self._text(chunk, number, prompt).model_copy(
            update={
                "text": answer.text,
                "tokens": answer.tokens,
                "finish_reason": answer.finish_reason,
                "answer": answer.answer,
                "latency": latency,
            }
        )

    def _with_rules(self, text: SessionText, *, is_shown_again: bool) -> SessionText:
        """Return the text with the probability of each rule; without them if they cannot be checked."""
        # Frames that are shown again were checked with their own chunk.
        rules = () if self._reset_requested or is_shown_again else self._params.rules
        confidences: list[float] = []
        if rules:
            try:
                confidences = self._session.check([rule.condition for rule in rules])
            except Exception as error:  # noqa: BLE001 - the text is there; the rules are checked with the next chunk
                self._failed(error)
                return text
        self._failures = 0
        checked = zip(rules, confidences, strict=True)
        found = {rule.name: round(value, 4) for rule, value in checked if math.isfinite(value)}
        return text.model_copy(update={"rules": found})

    def _failed(self, error: Exception, *, asked: bool = False) -> ErrorBody:
        """Count a failed inference and return what is said of it; one that is the question's fault is not counted.

        Raises:
            SaccadeError: OUT_OF_MEMORY; another one after five failures in a row.
        """
        failure, body = classify(error)
        log.warning("an inference failed", exc_info=error)
        if asked and failure == "user":
            return body
        self._failures += 1
        if failure == "out_of_memory":
            raise SaccadeError(body.code, body.message, hint=body.hint) from error
        if self._failures >= _FAILURES:
            message = f"The model failed {self._failures} times in a row: {body.message}"
            raise SaccadeError(body.code, message, hint=body.hint) from error
        return body

    def _request(self, chunk: ShownChunk, prompt: SessionPromptRequested | None) -> ChunkRequest:
        params = self._params
        return ChunkRequest(
            frames=chunk.images,
            start_s=chunk.start_s,
            end_s=chunk.end_s,
            instruction=params.instruction,
            question=None if prompt is None else prompt.text,
            answer_schema=params.answer_schema if prompt is None else prompt.answer_schema,
            max_new_tokens=params.max_new_tokens,
            temperature=params.temperature,
            top_p=params.top_p,
            seed=params.seed,
        )

    def _text(self, chunk: ShownChunk, number: int, prompt: SessionPromptRequested | None) -> SessionText:
        return SessionText(
            run_id=self._context.run_id,
            chunk=number,
            text="",
            first_seq=chunk.frames[0].seq,
            last_seq=chunk.frames[-1].seq,
            source=chunk.source,
            frames=list(chunk.frames),
            dropped=chunk.dropped,
            start_s=chunk.start_s,
            end_s=chunk.end_s,
            prompt_version=prompt_version(self._request(chunk, prompt)),
            prompt_id=None if prompt is None else prompt.prompt_id,
            model=self._model.name,
            memory=self._params.memory,
        )


def prompt_version(request: ChunkRequest) -> str:
    """Return a hash of what the model is asked and of the form of the prompt."""
    asked = [_FORM, request.question or request.instruction, request.answer_schema]
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:12]


def _queue_ms(chunk: ShownChunk, began_s: float) -> float:
    """Return how long the newest frame has waited; 0 for one that is shown again."""
    return 0.0 if chunk.arrived_at_s is None else round(max(0.0, 1e3 * (began_s - chunk.arrived_at_s)), 2)


class _Deltas:
    """Parts of one text, published at most ten times a second."""

    def __init__(self, context: LiveContext, chunk: int, prompt: SessionPromptRequested | None) -> None:
        self._context = context
        self._chunk, self._prompt_id = chunk, None if prompt is None else prompt.prompt_id
        self._text = self._unsent = ""
        self._count = 0
        self._sent_at_s = 0.0

    def add(self, text: str) -> None:
        self._text += text
        self._unsent += text
        now_s = time.monotonic()
        if not self._unsent or now_s - self._sent_at_s < _DELTA_S:
            return
        self._count, self._sent_at_s = self._count + 1, now_s
        self._context.say_delta(
            SessionTextDelta(
                run_id=self._context.run_id,
                chunk=self._chunk,
                n=self._count,
                delta=self._unsent,
                text=self._text,
                prompt_id=self._prompt_id,
            )
        )
        self._unsent = ""
