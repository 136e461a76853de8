"""Backend for many sessions on one GPU by vLLM, whose prefix cache serves each session's growing conversation."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from PIL import Image
from vllm import AsyncEngineArgs, SamplingParams
from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams
from vllm.v1.engine.async_llm import AsyncLLM

from modal_workers.vision_stream.models.engine import EngineOutput, EnginePrompt, EngineSampling, SharedEngine
from modal_workers.vision_stream.models.engine_model import EngineModel
from modal_workers.vision_stream.models.gemma.folder import load_words
from modal_workers.vision_stream.models.weights import OnProgress

#: Tokens of one session's conversation at most: several of them share the memory of the GPU.
CONTEXT_TOKENS: Final = 16_384
#: Frames of a conversation at most; each has 256 tokens.
_FRAMES: Final = 64
#: A token with this added to its logit is not chosen.
_NEVER: Final = -100.0


def load_vllm_model(name: str, folder: Path, *, on_progress: OnProgress, context_tokens: int | None) -> EngineModel:
    """Start an engine with the model of a folder."""
    words = load_words(folder)
    length = min(context_tokens or CONTEXT_TOKENS, words.longest)
    on_progress("starting the engine", 0.0)

    async def open_engine() -> SharedEngine:
        return VllmEngine(
            AsyncLLM.from_engine_args(
                AsyncEngineArgs(
                    model=str(folder),
                    max_model_len=length,
                    limit_mm_per_prompt={"image": _FRAMES},
                    enable_prefix_caching=True,
                    max_logprobs=32,
                    disable_log_stats=True,
                )
            )
        )

    model = EngineModel(name, words, length, open_engine)
    on_progress("starting the engine", 1.0)
    return model


class VllmEngine:
    """Engine of the protocol ``SharedEngine``."""

    def __init__(self, engine: AsyncLLM) -> None:
        """Take a started engine."""
        self._engine = engine

    async def generate(self, prompt: EnginePrompt, sampling: EngineSampling) -> AsyncIterator[EngineOutput]:
        """Generate an answer."""
        images = [Image.fromarray(frame) for frame in prompt.frames]
        request = {"prompt_token_ids": list(prompt.tokens), "multi_modal_data": {"image": images}}
        async for output in self._engine.generate(request, _parameters(sampling), prompt.request_id):
            answer = output.outputs[0]
            scores = answer.logprobs[-1] if answer.logprobs else {}
            yield EngineOutput(
                tokens=list(answer.token_ids),
                finish_reason=answer.finish_reason,
                prompt_tokens=len(output.prompt_token_ids or ()),
                cached_tokens=output.num_cached_tokens or 0,
                scores={token: found.logprob for token, found in scores.items()} or None,
            )

    async def abort(self, request_id: str) -> None:
        """End a request."""
        await self._engine.abort(request_id)

    def shutdown(self) -> None:
        """End the engine's processes."""
        self._engine.shutdown()


def _parameters(sampling: EngineSampling) -> SamplingParams:
    scored = list(sampling.scored_tokens) or None
    schema = sampling.answer_schema
    return SamplingParams(
        max_tokens=sampling.max_tokens,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        seed=sampling.seed,
        stop_token_ids=list(sampling.end_tokens),
        logit_bias=dict.fromkeys(sampling.forbidden_tokens, _NEVER) or None,
        # Of the logits as they are; one of these tokens is chosen, so that its place in the answer is not another's.
        allowed_token_ids=scored,
        logprobs=len(scored) if scored else None,
        logprob_token_ids=scored,
        structured_outputs=None
        if schema is None
        else StructuredOutputsParams(json=dict(schema), disable_any_whitespace=True),
        # the session decodes: the same text as from every backend
        detokenize=False,
        output_kind=RequestOutputKind.DELTA,
    )
