"""Generation of one answer, token by token."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from modal_workers.vision_stream.models.gemma.grammar import AnswerConstraint
from modal_workers.vision_stream.models.gemma.network import Gemma, TokenContext
from modal_workers.vision_stream.models.gemma.sampling import TokenChoice
from modal_workers.vision_stream.models.model import ChunkRequest, FinishReason
from modal_workers.vision_stream.models.text_stream import TextStream


@dataclass(frozen=True)
class Generated:
    """Tokens of an answer, without the one that ended it."""

    tokens: tuple[int, ...]
    #: What was read: the prompt, and the tokens but ``unread``.
    context: TokenContext
    #: The last token; none after an answer that the model ended: to find its end, all of it was read.
    unread: tuple[int, ...]
    finish_reason: FinishReason
    #: Time of the first token by ``perf_counter``; None without one.
    first_token: float | None = None


def generate(
    gemma: Gemma,
    request: ChunkRequest,
    logits: torch.Tensor,
    context: TokenContext,
    *,
    constraint: AnswerConstraint | None,
    stream: TextStream,
    cancelled: Callable[[], bool],
) -> Generated:
    """Generate the answer after a prompt; its text goes to the stream while it is generated."""
    choice, tokens, first = TokenChoice(request), list[int](), None
    while not cancelled():
        if tokens:
            logits, context = gemma.read(context, tokens[-1:])
        speakable = gemma.speakable(logits)
        token = choice.choose(speakable if constraint is None else constraint.masked(speakable))
        first = first or time.perf_counter()
        if token in gemma.words.end_tokens:
            stream.end()
            return Generated(tuple(tokens), context, (), "complete", first)
        tokens.append(token)
        stream.push(token)
        if constraint is not None:
            constraint.accept(token)
            if constraint.complete:
                stream.end()
                return Generated(tuple(tokens), context, tuple(tokens[-1:]), "complete", first)
        if len(tokens) == request.max_new_tokens:
            return Generated(tuple(tokens), context, tuple(tokens[-1:]), "length", first)
    return Generated(tuple(tokens), context, tuple(tokens[-1:]), "cancelled", first)
