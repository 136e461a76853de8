"""Shared engine in this process: it computes each request from its first token."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import torch

from modal_workers.vision_stream.models.engine import EngineOutput, EnginePrompt, EngineSampling
from modal_workers.vision_stream.models.gemma.network import Gemma, TokenContext
from modal_workers.vision_stream.models.gemma.sampling import TokenChoice
from modal_workers.vision_stream.models.model import ChunkRequest


class LocalEngine:
    """Engine of the protocol ``SharedEngine``."""

    def __init__(self, gemma: Gemma) -> None:
        self._gemma = gemma
        self.prompts: list[EnginePrompt] = []
        self.aborted: list[str] = []
        self.is_shut_down = False
        #: Prompts with their answers, of which the beginning of a later one is known.
        self._known: list[list[int]] = []

    async def generate(self, prompt: EnginePrompt, sampling: EngineSampling) -> AsyncIterator[EngineOutput]:
        """Generate an answer."""
        self.prompts.append(prompt)
        cached = max((_common(prompt.tokens, known) for known in self._known), default=0)
        constraint = None if sampling.answer_schema is None else self._gemma.grammars.constraint(sampling.answer_schema)
        logits, context = self._read(prompt)
        answer: list[int] = []
        prompt_tokens = len(context)
        choice = _choice(sampling)
        while True:
            await asyncio.sleep(0)  # an engine serves others between two tokens
            with torch.inference_mode():
                token, scores = self._next(logits, sampling, choice, constraint)
                answer.append(token)
                ends = token in sampling.end_tokens
                if constraint is not None and not ends:
                    constraint.accept(token)
                    ends = constraint.complete
                finish = "stop" if ends else "length" if len(answer) == sampling.max_tokens else None
                yield EngineOutput([token], finish, prompt_tokens, cached, scores)
                if finish:
                    break
                logits, context = self._gemma.read(context, [token])
        self._known.append([*prompt.tokens, *answer])

    async def abort(self, request_id: str) -> None:
        """End a request."""
        self.aborted.append(request_id)

    def shutdown(self) -> None:
        """End the engine."""
        self.is_shut_down = True

    @torch.inference_mode()
    def _read(self, prompt: EnginePrompt) -> tuple[torch.Tensor, TokenContext]:
        features = self._gemma.features(prompt.frames)
        return self._gemma.read(self._gemma.empty(), self._expanded(prompt.tokens), features)

    def _expanded(self, tokens: Sequence[int]) -> list[int]:
        """Return the tokens with all of each frame; an answer's stay as they were generated."""
        words = self._gemma.words
        begin, end = words.tokenizer.convert_tokens_to_ids(["<start_of_turn>", "<end_of_turn>"])
        expanded: list[int] = []
        rest = list(tokens)
        while begin in rest:
            start = rest.index(begin)
            stop = rest.index(end, start) if end in rest[start:] else len(rest)
            turn = words.tokenizer.decode(rest[start:stop]).replace("<start_of_image>", words._frame)
            user = turn.startswith("<start_of_turn>user")
            expanded += [*rest[:start], *(words.encode(turn) if user else rest[start:stop])]
            rest = rest[stop:]
        return expanded + rest

    def _next(
        self, logits: torch.Tensor, sampling: EngineSampling, choice: TokenChoice, constraint: object
    ) -> tuple[int, dict[int, float] | None]:
        if sampling.scored_tokens:
            scored = logits.log_softmax(-1)
            scores = {token: float(scored[token]) for token in sampling.scored_tokens}
            return max(scores, key=lambda token: scores[token]), scores
        masked = logits.index_fill(-1, torch.tensor(list(sampling.forbidden_tokens)), -torch.inf)
        return choice.choose(masked if constraint is None else constraint.masked(masked)), None


def _choice(sampling: EngineSampling) -> TokenChoice:
    request = ChunkRequest([], 0.0, 0.0, "", temperature=sampling.temperature, top_p=sampling.top_p)
    choice = TokenChoice(request)
    choice._generator.manual_seed(sampling.seed or 0)
    return choice


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    return next((place for place, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), len(other))
