"""Sessions over a shared engine: a request is the whole conversation, so that all but its end is in the cache."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any, Final, TypeVar

import numpy as np

from contracts.errors import ErrorCode, SaccadeError
from modal_workers.vision_stream.models import prompts
from modal_workers.vision_stream.models.answers import said, structured_answer
from modal_workers.vision_stream.models.context_budget import Base, base_that_fits, too_long
from modal_workers.vision_stream.models.engine import EngineOutput, EnginePrompt, EngineSampling, SharedEngine
from modal_workers.vision_stream.models.gemma.words import Words
from modal_workers.vision_stream.models.model import (
    HISTORY_TEXTS,
    ChunkAnswer,
    ChunkRequest,
    FinishReason,
    Memory,
    PastText,
    Rgb,
)
from modal_workers.vision_stream.models.text_stream import TextStream

#: How often a waiting session asks whether it was cancelled.
_ASK_S: Final = 0.02
#: How long an engine has to end a request or to score an answer.
_ENGINE_TIMEOUT_S: Final = 60.0
#: Logarithm of the probability of a token that the engine did not score.
_UNSEEN: Final = -100.0
_Result = TypeVar("_Result")


class EngineModel:
    """Model of the protocol ``WatchModel`` over an engine, which runs in an event loop of its own thread."""

    def __init__(
        self, name: str, words: Words, context_tokens: int, open_engine: Callable[[], Coroutine[Any, Any, SharedEngine]]
    ) -> None:
        """Start the engine."""
        self.name = name
        self._words, self._limit = words, min(context_tokens, words.longest)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="engine", daemon=True)
        self._thread.start()
        try:
            self._engine = asyncio.run_coroutine_threadsafe(open_engine(), self._loop).result()
        except BaseException:
            self._stop()
            raise
        self._numbers = count(1)

    def open_session(self, memory: Memory, *, history_texts: int = HISTORY_TEXTS) -> EngineSession:
        """Open a session with an empty memory."""
        requests = _Requests(self._engine, self._loop, f"session-{next(self._numbers)}")
        return EngineSession(requests, self._words, memory, history_texts=history_texts, context_tokens=self._limit)

    def close(self) -> None:
        """End the engine and its thread."""
        self._engine.shutdown()
        self._stop()

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_ENGINE_TIMEOUT_S)
        if not self._thread.is_alive():
            self._loop.close()


class _Requests:
    """Requests of one session to the engine, from the session's thread."""

    def __init__(self, engine: SharedEngine, loop: asyncio.AbstractEventLoop, session: str) -> None:
        self._engine, self._loop, self._session = engine, loop, session
        self._numbers = count(1)

    def stream(
        self,
        tokens: Sequence[int],
        frames: Sequence[Rgb],
        sampling: EngineSampling,
        *,
        cancelled: Callable[[], bool],
        on_output: Callable[[EngineOutput], None],
    ) -> bool:
        """Pass on the outputs of a request; return False if it was cancelled."""
        prompt = EnginePrompt(f"{self._session}-{next(self._numbers)}", tokens, frames)
        outputs: queue.SimpleQueue[EngineOutput | None] = queue.SimpleQueue()

        async def collect() -> None:
            try:
                async for output in self._engine.generate(prompt, sampling):
                    outputs.put(output)
            finally:
                outputs.put(None)

        collecting = asyncio.run_coroutine_threadsafe(collect(), self._loop)
        try:
            while not cancelled():
                try:
                    output = outputs.get(timeout=_ASK_S)
                except queue.Empty:
                    continue
                if output is None:
                    collecting.result(_ENGINE_TIMEOUT_S)
                    return True
                on_output(output)
            return False
        finally:
            if not collecting.done():
                self._run(self._engine.abort(prompt.request_id))
                collecting.cancel()

    def scores(
        self, prompts_: Sequence[Sequence[int]], frames: Sequence[Rgb], sampling: EngineSampling
    ) -> list[EngineOutput]:
        """Return the last output of several requests, which run at once."""

        async def last(tokens: Sequence[int]) -> EngineOutput:
            found = None
            async for output in self._engine.generate(
                EnginePrompt(f"{self._session}-{next(self._numbers)}", tokens, frames), sampling
            ):
                found = output
            if found is None:
                raise RuntimeError("the engine gave no answer")
            return found

        async def every() -> list[EngineOutput]:
            return await asyncio.gather(*(last(tokens) for tokens in prompts_))

        return self._run(every())

    def _run(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_ENGINE_TIMEOUT_S)


@dataclass(frozen=True)
class _Turn:
    """Chunk of the conversation, with its answer."""

    request: ChunkRequest
    #: What the prompt told of chunks before it, and all texts before it.
    told: tuple[PastText, ...]
    past: tuple[PastText, ...]
    answer: tuple[int, ...] = ()


class EngineSession:
    """State of one session: its conversation."""

    def __init__(
        self, requests: _Requests, words: Words, memory: Memory, *, history_texts: int, context_tokens: int
    ) -> None:
        """Begin with an empty conversation."""
        self._requests, self._words, self._kind = requests, words, memory
        self._texts, self._limit = history_texts, context_tokens
        self._turns: tuple[_Turn, ...] = ()
        self._past: tuple[PastText, ...] = ()
        self._closed = False

    def prime(self, past: Sequence[PastText]) -> None:
        """Replace the conversation by texts."""
        self._raise_if_closed()
        self._turns, self._past = (), self._latest(past)

    def watch(
        self, request: ChunkRequest, on_text: Callable[[str], None], cancelled: Callable[[], bool]
    ) -> ChunkAnswer:
        """Return the text for a chunk.

        Raises:
            SaccadeError: INVALID_PARAMETER if the frames and the instruction alone are longer than the context;
                ANSWER_SCHEMA_INVALID.
        """
        self._raise_if_closed()
        if not request.frames:
            raise ValueError("a chunk has at least one frame")
        begun = time.perf_counter()
        turns = self._fitting(request)
        answer = _Answer(TextStream(self._words.decode, on_text), self._words.end_tokens)
        try:
            whole = self._requests.stream(
                self._tokens(turns), _frames(turns), self._sampling(request), cancelled=cancelled, on_output=answer.take
            )
        except ValueError as error:
            if request.answer_schema is None:
                raise
            raise SaccadeError(ErrorCode.ANSWER_SCHEMA_INVALID, str(error).splitlines()[0]) from error
        ended = time.perf_counter()
        finish: FinishReason = "cancelled" if not whole else answer.finish_reason
        if finish == "complete":
            answer.stream.end()
        text, first = answer.stream.text, answer.first_token or ended
        reprimed = bool(self._kind == "cache" and self._turns and len(turns) <= len(self._turns))
        self._turns = (*turns[:-1], replace(turns[-1], answer=tuple(answer.tokens)))
        self._past = self._latest([*self._past, *said(request, text)])
        return ChunkAnswer(
            text=text,
            tokens=len(answer.tokens),
            finish_reason=finish,
            answer=structured_answer(request, text, finish),
            prefill_ms=1e3 * (first - begun),
            decode_ms=1e3 * (ended - first),
            first_token_ms=1e3 * (first - begun) if answer.first_token else 0.0,
            cached_tokens=answer.cached_tokens,
            prompt_tokens=answer.prompt_tokens,
            reprimed=reprimed,
        )

    def check(self, conditions: Sequence[str]) -> list[float]:
        """Return for each condition the probability that it is true in the frames of the last chunk."""
        self._raise_if_closed()
        if not self._turns:
            raise ValueError("no chunk was watched yet")
        if not conditions:
            return []
        words = self._words
        before, last = self._tokens(self._turns[:-1], answered=True), self._turns[-1]
        questions = [
            words.prompt(len(last.request.frames), prompts.condition_text(condition), first=not self._turns[:-1])
            for condition in conditions
        ]
        sampling = EngineSampling(max_tokens=1, scored_tokens=(*words.yes, *words.no))
        outputs = self._requests.scores(
            [[*before, *question] for question in questions], _frames(self._turns), sampling
        )
        return [_probability_of_yes(output, words) for output in outputs]

    def close(self) -> None:
        """Free the conversation."""
        self._turns, self._past, self._closed = (), (), True

    def _raise_if_closed(self) -> None:
        if self._closed:
            raise RuntimeError("the session is closed")

    def _latest(self, past: Sequence[PastText]) -> tuple[PastText, ...]:
        return tuple(past[-self._texts :]) if self._texts else ()

    def _fitting(self, request: ChunkRequest) -> tuple[_Turn, ...]:
        """Return the conversation with the chunk's turn at its end, as much of it as fits."""

        def conversation(base: Base) -> tuple[_Turn, ...] | None:
            if base is Base.WHOLE:
                return (*self._turns, _Turn(request, () if self._turns else self._past, self._past))
            if base is Base.LAST_CHUNK:
                if not self._turns:
                    return None
                last = self._turns[-1]
                return replace(last, told=last.past), _Turn(request, (), self._past)
            return (_Turn(request, self._past if base is Base.TEXTS else (), self._past),)

        def tokens(base: Base) -> int | None:
            turns = conversation(base)
            return None if turns is None else self._length(turns) + request.max_new_tokens

        base = base_that_fits(self._kind, tokens, self._limit)
        turns = None if base is None else conversation(base)
        if turns is None:
            raise too_long(request, tokens(Base.NOTHING) or 0, self._limit)
        return turns

    def _tokens(self, turns: Sequence[_Turn], *, answered: bool = False) -> list[int]:
        """Return the tokens of a conversation, one for each frame; ``answered``: with the last answer."""
        tokens: list[int] = []
        for number, turn in enumerate(turns):
            text = prompts.chunk_text(turn.request, turn.told)
            tokens += self._words.prompt(len(turn.request.frames), text, first=not number)
            if answered or number + 1 < len(turns):
                tokens += turn.answer
        return tokens

    def _length(self, turns: Sequence[_Turn]) -> int:
        frames = sum(len(turn.request.frames) for turn in turns)
        return len(self._tokens(turns)) + frames * self._words.tokens_of_a_frame

    def _sampling(self, request: ChunkRequest) -> EngineSampling:
        return EngineSampling(
            max_tokens=request.max_new_tokens,
            temperature=request.temperature,
            top_p=request.top_p,
            seed=request.chunk_seed,
            end_tokens=sorted(self._words.end_tokens),
            forbidden_tokens=self._words.control_tokens,
            answer_schema=request.answer_schema,
        )


class _Answer:
    """Answer while it comes."""

    def __init__(self, stream: TextStream, end_tokens: frozenset[int]) -> None:
        self.stream, self._end_tokens = stream, end_tokens
        self.tokens: list[int] = []
        self.finish_reason: FinishReason = "length"
        self.first_token: float | None = None
        self.prompt_tokens = self.cached_tokens = 0

    def take(self, output: EngineOutput) -> None:
        """Add new tokens; the one that ends the answer is no part of it."""
        self.first_token = self.first_token or time.perf_counter()
        self.prompt_tokens, self.cached_tokens = output.prompt_tokens, output.cached_tokens
        for token in output.tokens:
            if token in self._end_tokens:
                self.finish_reason = "complete"
                return
            self.tokens.append(token)
            self.stream.push(token)
        if output.finish_reason == "stop":
            self.finish_reason = "complete"


def _frames(turns: Sequence[_Turn]) -> list[Rgb]:
    return [frame for turn in turns for frame in turn.request.frames]


def _probability_of_yes(output: EngineOutput, words: Words) -> float:
    scores = output.scores or {}
    yes, no = (
        float(np.logaddexp.reduce([scores.get(token, _UNSEEN) for token in tokens])) for tokens in (words.yes, words.no)
    )
    return float(1.0 / (1.0 + np.exp(no - yes)))
