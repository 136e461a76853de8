"""Backend that runs Gemma 3 by transformers, on a GPU or the CPU, with the memory of each session in this process."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Final

import torch

from contracts.errors import ErrorCode, SaccadeError
from modal_workers.vision_stream.models import prompts
from modal_workers.vision_stream.models.answers import said, structured_answer
from modal_workers.vision_stream.models.context_budget import Base, base_that_fits, too_long
from modal_workers.vision_stream.models.gemma.folder import load_gemma
from modal_workers.vision_stream.models.gemma.generation import Generated, generate
from modal_workers.vision_stream.models.gemma.network import Gemma, TokenContext
from modal_workers.vision_stream.models.gemma.words import TurnTokens
from modal_workers.vision_stream.models.model import HISTORY_TEXTS, ChunkAnswer, ChunkRequest, Memory, PastText
from modal_workers.vision_stream.models.text_stream import TextStream
from modal_workers.vision_stream.models.weights import OnProgress

#: Tokens of a session's memory at most, where the model could take more: each takes memory and time of every step.
CONTEXT_TOKENS: Final = 32_768


class TransformersModel:
    """Model of the protocol ``WatchModel``."""

    def __init__(self, name: str, gemma: Gemma, *, context_tokens: int = CONTEXT_TOKENS) -> None:
        """Share a loaded model between sessions."""
        self.name = name
        self._gemma: Gemma | None = gemma
        self._context_tokens = min(context_tokens, gemma.words.longest)

    def open_session(self, memory: Memory, *, history_texts: int = HISTORY_TEXTS) -> TransformersSession:
        """Open a session with an empty memory."""
        if self._gemma is None:
            raise RuntimeError("the model is closed")
        return TransformersSession(self._gemma, memory, history_texts, self._context_tokens)

    def close(self) -> None:
        """Free the model once no session uses it any more."""
        self._gemma = None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


@dataclass(frozen=True)
class _LastChunk:
    """Last chunk, kept for the check of conditions, and to begin a new context with."""

    #: The chunk without its frames.
    request: ChunkRequest
    features: torch.Tensor
    #: TokenContext up to the end of the last frame.
    seen: TokenContext
    #: Texts before this one.
    past: tuple[PastText, ...]
    answer: tuple[int, ...]


@dataclass(frozen=True)
class _Remembered:
    """Memory of a session. It is replaced as a whole, when a chunk is done."""

    context: TokenContext
    #: Token of the last answer that is not read yet: its last one, or none.
    unread: tuple[int, ...] = ()
    past: tuple[PastText, ...] = ()
    last: _LastChunk | None = None

    def __len__(self) -> int:
        """Return the number of tokens."""
        return len(self.context) + len(self.unread)


@dataclass(frozen=True)
class _Prompt:
    """Turn of a chunk, and the memory that it is put behind."""

    memory: _Remembered
    turn: TurnTokens
    cached: int = 0
    reprimed: bool = False


class TransformersSession:
    """State of one session."""

    def __init__(self, gemma: Gemma, memory: Memory, history_texts: int, context_tokens: int) -> None:
        """Begin with an empty memory."""
        self._gemma, self._kind, self._texts, self._limit = gemma, memory, history_texts, context_tokens
        self._remembered: _Remembered | None = _Remembered(gemma.empty())

    def prime(self, past: Sequence[PastText]) -> None:
        """Replace the memory by texts."""
        self._memory()
        self._remembered = _Remembered(self._gemma.empty(), past=self._latest(past))

    def watch(
        self, request: ChunkRequest, on_text: Callable[[str], None], cancelled: Callable[[], bool]
    ) -> ChunkAnswer:
        """Return the text for a chunk.

        Raises:
            SaccadeError: INVALID_PARAMETER if the frames and the instruction alone are longer than the context;
                ANSWER_SCHEMA_INVALID; OUT_OF_MEMORY.
        """
        if not request.frames:
            raise ValueError("a chunk has at least one frame")
        try:
            with torch.inference_mode():
                return self._watch(request, on_text, cancelled)
        except torch.OutOfMemoryError as error:
            raise SaccadeError(ErrorCode.OUT_OF_MEMORY, "The GPU's memory is full.") from error

    def check(self, conditions: Sequence[str]) -> list[float]:
        """Return for each condition the probability that it is true in the frames of the last chunk."""
        last = self._memory().last
        if last is None:
            raise ValueError("no chunk was watched yet")
        if not conditions:
            return []
        texts = [prompts.condition_text(condition) for condition in conditions]
        with torch.inference_mode():
            questions = [self._gemma.words.turn(1, text, first=False).text for text in texts]
            return self._gemma.probabilities_of_yes(last.seen, questions)

    def close(self) -> None:
        """Free the memory."""
        self._remembered = None

    def _memory(self) -> _Remembered:
        if self._remembered is None:
            raise RuntimeError("the session is closed")
        return self._remembered

    def _latest(self, past: Sequence[PastText]) -> tuple[PastText, ...]:
        return tuple(past[-self._texts :]) if self._texts else ()

    def _watch(
        self, request: ChunkRequest, on_text: Callable[[str], None], cancelled: Callable[[], bool]
    ) -> ChunkAnswer:
        gemma, begun, memory = self._gemma, time.perf_counter(), self._memory()
        constraint = None if request.answer_schema is None else gemma.grammars.constraint(request.answer_schema)
        prompt = self._prompt(request, memory)
        features = gemma.features(request.frames)
        _, seen = gemma.read(prompt.memory.context, [*prompt.memory.unread, *prompt.turn.frames], features)
        logits, context = gemma.read(seen, prompt.turn.text)
        gemma.synchronise()
        prefilled = time.perf_counter()
        stream = TextStream(gemma.words.decode, on_text)
        generated = generate(gemma, request, logits, context, constraint=constraint, stream=stream, cancelled=cancelled)
        answer = _answer(request, prompt, stream.text, generated, begun=begun, prefilled=prefilled)
        self._remembered = _Remembered(
            context=generated.context,
            unread=generated.unread,
            past=self._latest([*memory.past, *said(request, answer.text)]),
            last=_LastChunk(replace(request, frames=()), features, seen, memory.past, generated.tokens),
        )
        return answer

    def _prompt(self, request: ChunkRequest, memory: _Remembered) -> _Prompt:
        """Return the chunk's turn behind as much of the memory as fits."""
        again = None if memory.last is None else self._tokens_of(memory.last)

        @cache
        def turn(base: Base) -> TurnTokens | None:
            first = base is not Base.LAST_CHUNK and not (base is Base.WHOLE and len(memory))
            if base is Base.LAST_CHUNK and again is None:
                return None
            past = memory.past if first and base is not Base.NOTHING else ()
            return self._gemma.words.turn(len(request.frames), prompts.chunk_text(request, past), first=first)

        before = {Base.WHOLE: len(memory), Base.LAST_CHUNK: 0 if again is None else len(again)}

        def tokens(base: Base) -> int | None:
            found = turn(base)
            return None if found is None else before.get(base, 0) + len(found) + request.max_new_tokens

        base = base_that_fits(self._kind, tokens, self._limit)
        chosen = None if base is None else turn(base)
        if base is None or chosen is None:
            raise too_long(request, tokens(Base.NOTHING) or 0, self._limit)
        if base is Base.WHOLE:
            return _Prompt(memory, chosen, cached=len(memory.context))
        renewed = self._kind == "cache" and len(memory) > 0
        if base is Base.LAST_CHUNK and memory.last is not None and again is not None:
            # all but the last token of the answer, as after every chunk
            _, context = self._gemma.read(self._gemma.empty(), again[:-1], memory.last.features)
            return _Prompt(_Remembered(context, unread=tuple(again[-1:])), chosen, reprimed=renewed)
        return _Prompt(_Remembered(self._gemma.empty()), chosen, reprimed=renewed)

    def _tokens_of(self, last: _LastChunk) -> list[int]:
        """Return the last chunk as the beginning of a conversation, with its answer."""
        text = prompts.chunk_text(last.request, last.past)
        turn = self._gemma.words.turn(last.features.shape[0], text, first=True)
        return [*turn.frames, *turn.text, *last.answer]


def load_transformers_model(
    name: str, folder: Path, device: str, *, on_progress: OnProgress, context_tokens: int | None
) -> TransformersModel:
    """Load a model from its folder to a device.

    Raises:
        SaccadeError: MODEL_FILE_INVALID, or BACKEND_NOT_INSTALLED for a GPU that PyTorch does not find.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise SaccadeError(
            ErrorCode.BACKEND_NOT_INSTALLED,
            "PyTorch finds no GPU here.",
            hint="Install PyTorch for CUDA and check nvidia-smi, or load the model on the CPU.",
        )
    gemma = load_gemma(folder, torch.device(device), on_progress)
    return TransformersModel(name, gemma, context_tokens=context_tokens or CONTEXT_TOKENS)


def _answer(
    request: ChunkRequest, prompt: _Prompt, text: str, generated: Generated, *, begun: float, prefilled: float
) -> ChunkAnswer:
    ended = time.perf_counter()
    return ChunkAnswer(
        text=text,
        tokens=len(generated.tokens),
        finish_reason=generated.finish_reason,
        answer=structured_answer(request, text, generated.finish_reason),
        prefill_ms=1e3 * (prefilled - begun),
        decode_ms=1e3 * (ended - prefilled),
        first_token_ms=1e3 * (generated.first_token - begun) if generated.first_token else 0.0,
        cached_tokens=prompt.cached,
        prompt_tokens=len(prompt.memory) + len(prompt.turn),
        reprimed=prompt.reprimed,
    )
