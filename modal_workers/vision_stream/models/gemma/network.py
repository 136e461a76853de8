"""Gemma 3 as it is used here: features of frames, and one step over tokens and a cache."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from modal_workers.vision_stream.models.gemma.grammar import AnswerGrammars
from modal_workers.vision_stream.models.gemma.hugging_face import (
    BaseModelOutputWithPooling,
    DynamicCache,
    Gemma3ForConditionalGeneration,
)
from modal_workers.vision_stream.models.gemma.pixels import Pixels
from modal_workers.vision_stream.models.gemma.words import Words
from modal_workers.vision_stream.models.model import Rgb


@dataclass(frozen=True)
class TokenContext:
    """Tokens that the model has read: their keys and values, and which of them were those of images.

    It is never changed: a step returns a new one, which shares what it can. So an older one is a way back.
    """

    cache: DynamicCache
    #: 1 for a token of an image, of all tokens: within an image, attention goes both ways.
    image_tokens: torch.Tensor

    def __len__(self) -> int:
        """Return the number of tokens."""
        return int(self.image_tokens.shape[-1])

    def branch(self) -> DynamicCache:
        """Return a cache that can be appended to without a change of this one: tensors are only ever replaced."""
        branch = copy.copy(self.cache)
        branch.layers = [copy.copy(layer) for layer in self.cache.layers]
        return branch


class Gemma:
    """Network and tokenizer. It holds nothing of any session."""

    def __init__(self, network: Gemma3ForConditionalGeneration, words: Words, pixels: Pixels) -> None:
        """Take the parts of a loaded model."""
        self.network, self.words, self._pixels = network, words, pixels
        self.device: torch.device = network.device
        self._control = torch.tensor(words.control_tokens, device=self.device)

    @cached_property
    def grammars(self) -> AnswerGrammars:
        """Grammars for this tokenizer."""
        words = self.words
        return AnswerGrammars(words.tokenizer.backend_tokenizer.to_str(), words.vocabulary, sorted(words.end_tokens))

    def features(self, frames: Sequence[Rgb]) -> torch.Tensor:
        """Return what the vision tower sees: frames x tokens of each x width."""
        values = self._pixels.of(frames, self.device, self.network.dtype)
        found: torch.Tensor = self.network.model.get_image_features(values, return_dict=True).pooler_output
        return found

    def empty(self) -> TokenContext:
        """Return the context of nothing read."""
        cache = DynamicCache(config=self.network.config)
        return TokenContext(cache, torch.zeros((1, 0), dtype=torch.long, device=self.device))

    def read(
        self, context: TokenContext, tokens: Sequence[int], features: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, TokenContext]:
        """Return the logits after the last token, and the context with all of them."""
        ids = torch.tensor([list(tokens)], device=self.device)
        new = (ids == self.words.image_token).long()
        image_tokens, cache = torch.cat([context.image_tokens, new], dim=1), context.branch()
        output = self.network(
            input_ids=ids,
            # By position, so from the first token of the context; without new images there is nothing to look ahead to.
            token_type_ids=None if features is None else image_tokens,
            mm_encoder_outputs=_encoded(features),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return output.logits[0, -1], TokenContext(cache, image_tokens)

    def probabilities_of_yes(self, context: TokenContext, questions: Sequence[Sequence[int]]) -> list[float]:
        """Return the probability of yes, against no, after each of the questions; the context stays as it is."""
        longest = max(len(question) for question in questions)
        # Filled up on the right: a token sees none that come after it, so that no mask is needed.
        rows = torch.tensor([[*question, *[0] * (longest - len(question))] for question in questions])
        last = torch.tensor([len(question) - 1 for question in questions])
        cache = context.branch()
        cache.batch_repeat_interleave(len(questions))
        ends, column = torch.unique(last, return_inverse=True)
        output = self.network(
            input_ids=rows.to(self.device), past_key_values=cache, use_cache=True, logits_to_keep=ends.to(self.device)
        )
        logits = output.logits[torch.arange(len(questions)), column].float()
        yes, no = (torch.logsumexp(logits[:, tokens], dim=-1) for tokens in (self.words.yes, self.words.no))
        return [float(value) for value in torch.sigmoid(yes - no)]

    def synchronise(self) -> None:
        """Wait until the device has done what it was given, so that times are those of the work."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def speakable(self, logits: torch.Tensor) -> torch.Tensor:
        """Return the logits without control tokens: one of an image in an answer would stand for a frame."""
        return logits.index_fill(-1, self._control, -torch.inf)


def _encoded(features: torch.Tensor | None) -> dict[str, Any] | None:
    return None if features is None else {"image": BaseModelOutputWithPooling(pooler_output=features)}
