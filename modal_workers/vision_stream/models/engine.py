"""Protocol of an engine that runs many sessions on one GPU and keeps what it has computed of their prompts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from modal_workers.vision_stream.models.model import Rgb


@dataclass(frozen=True)
class EnginePrompt:
    """Whole conversation: one token stands for each frame, in their order."""

    request_id: str
    tokens: Sequence[int]
    frames: Sequence[Rgb]


@dataclass(frozen=True)
class EngineSampling:
    """Choice of tokens."""

    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    end_tokens: Sequence[int] = ()
    #: Tokens that are never chosen.
    forbidden_tokens: Sequence[int] = ()
    #: The only tokens that are chosen from, with their probabilities in the output; empty: all.
    scored_tokens: Sequence[int] = ()
    answer_schema: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class EngineOutput:
    """New tokens of an answer."""

    tokens: Sequence[int]
    #: "stop", "length" or "abort"; None while there is more to come.
    finish_reason: str | None
    prompt_tokens: int
    cached_tokens: int
    #: Logarithms of the probabilities of ``scored_tokens`` at the last of the tokens.
    scores: Mapping[int, float] | None = None


class SharedEngine(Protocol):
    """Engine whose methods are called in one event loop."""

    def generate(self, prompt: EnginePrompt, sampling: EngineSampling) -> AsyncIterator[EngineOutput]:
        """Generate an answer; ValueError for a schema that the engine does not support."""

    async def abort(self, request_id: str) -> None:
        """End a request: its output ends."""

    def shutdown(self) -> None:
        """End the engine."""
