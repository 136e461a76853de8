"""What a session has read, computed again in one piece without a cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from modal_workers.vision_stream.models.gemma.hugging_face import BaseModelOutputWithPooling
from modal_workers.vision_stream.models.gemma.network import Gemma, TokenContext


@dataclass
class Reading:
    """Every token that was read, the frames' features, and the logits after each step."""

    tokens: list[int] = field(default_factory=list)
    features: list[torch.Tensor] = field(default_factory=list)
    #: Logits by the number of tokens before them.
    logits: dict[int, torch.Tensor] = field(default_factory=dict)


class RecordedGemma(Gemma):
    """The same model, which keeps what the session that uses it reads."""

    def __init__(self, gemma: Gemma) -> None:
        super().__init__(gemma.network, gemma.words, gemma._pixels)
        self.reading = Reading()

    def read(
        self, context: TokenContext, tokens: Sequence[int], features: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, TokenContext]:
        logits, after = super().read(context, tokens, features)
        if not len(context):
            self.reading = Reading()
        self.reading.tokens += tokens
        self.reading.logits[len(self.reading.tokens)] = logits
        if features is not None:
            self.reading.features.append(features)
        return logits, after


@torch.inference_mode()
def recomputed(gemma: Gemma, reading: Reading, *, images_marked: bool = True) -> dict[int, torch.Tensor]:
    """Return the logits after every step, computed from all tokens and frames at once."""
    ids = torch.tensor([reading.tokens])
    features = BaseModelOutputWithPooling(pooler_output=torch.cat(reading.features))
    hidden = gemma.network.model(
        input_ids=ids,
        token_type_ids=(ids == gemma.words.image_token).long() if images_marked else None,
        mm_encoder_outputs={"image": features},
        use_cache=False,
    ).last_hidden_state[0]
    return {count: gemma.network.lm_head(hidden[count - 1]) for count in reading.logits}


def difference(one: dict[int, torch.Tensor], other: dict[int, torch.Tensor]) -> float:
    """Return the largest difference of any logit."""
    assert one.keys() == other.keys()
    return max(float((one[count] - other[count]).abs().max()) for count in one)
