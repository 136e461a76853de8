"""Attention of the network in training, and losses of where some of its heads look.

A word of a thing is to look at the thing in the last frame, and a thing in a frame at the same thing in earlier frames.
From the words alone a network of this size learns that late or never, and then knows that something was dropped, but
not what.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import torch
from torch import nn
from torch.nn import functional

#: Added to the product with what a token does not see.
UNSEEN: Final = -1e4
#: Attribute of an attention module whose scores are kept for its loss.
_KEPT: Final = "kept_scores"


class Head(NamedTuple):
    """Head of a layer."""

    layer: int
    head: int


#: Heads that a thing looks back with: at the first frame of its chunk, at the frame before, at all earlier frames.
_FIRST, _BEFORE, _EARLIER = Head(1, 3), Head(1, 0), Head(2, 2)
#: Head that a word looks with at what it names, behind the layer in which the things' course is told.
_NAMED: Final = Head(3, 0)
#: Head that looks at what is to be named next.
_TOLD: Final = Head(4, 3)
_MOST_FRAMES: Final = 6


def attend(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    *,
    scaling: float,
    **_: object,
) -> tuple[torch.Tensor, None]:
    """Attend by plain products: on a CPU the backward pass of the fused kernel is several times slower in bfloat16.

    ``mask`` is added to the products. Without autocast, which would take the softmax in float32: most of its time goes
    to memory.
    """
    with torch.autocast("cpu", enabled=False):
        scores = torch.matmul((query * scaling).to(value.dtype), key.to(value.dtype).transpose(-1, -2))
        if mask is not None:
            scores = scores + mask
        if hasattr(module, _KEPT):
            setattr(module, _KEPT, scores)
        found = torch.matmul(torch.softmax(scores, -1), value)
    return found.transpose(1, 2).contiguous(), None


class Looks:
    """Places that heads of a language model look at; ``layers`` are its layers."""

    def __init__(self, layers: Any) -> None:
        self._layers = layers
        for layer in {head.layer for head in (_FIRST, _BEFORE, _EARLIER, _NAMED, _TOLD)}:
            if layer < len(layers):
                setattr(layers[layer].self_attn, _KEPT, None)

    def loss(
        self,
        places: torch.Tensor,
        entities: torch.Tensor,
        firsts: torch.Tensor,
        named: torch.Tensor,
        told: torch.Tensor,
    ) -> torch.Tensor:
        """Return the loss of where the heads looked in the last pass.

        Args:
            places: Row and position of each token of each image [frames, tokens, 2].
            entities: Entity that each of these tokens shows, or -1 [frames, tokens].
            firsts: First frame of each frame's chunk [frames].
            named: Row and position of each word for a thing, the last frame and the thing's entity [words, 4].
            told: The same of each token that an answer's word for a thing is predicted from [words, 4].
        """
        frames = torch.arange(len(firsts))
        loss = self._back(_FIRST, places, entities, [(firsts != frames, firsts)])
        earlier = [((frames - lag) >= firsts, (frames - lag).clamp(min=0)) for lag in range(1, _MOST_FRAMES)]
        loss = loss + self._back(_BEFORE, places, entities, earlier[:1])
        loss = loss + self._back(_EARLIER, places, entities, earlier)
        for head, words in ((_NAMED, named), (_TOLD, told)):
            if head.layer >= len(self._layers):
                continue
            rows, positions, last, entity = words.unbind(-1)
            target = torch.zeros(len(words), self._scores(head).shape[-1], dtype=torch.bool)
            target.scatter_(1, places[last, :, 1], entities[last] == entity.unsqueeze(-1))
            loss = loss + self._missed(head, rows, positions, target)
        return loss

    def _back(
        self, head: Head, places: torch.Tensor, entities: torch.Tensor, at: list[tuple[torch.Tensor, torch.Tensor]]
    ) -> torch.Tensor:
        """Return how far each thing is from looking at itself in other frames, given as (are there such, which)."""
        frame, token = torch.nonzero(entities >= 0, as_tuple=True)
        rows, positions = places[frame, token].unbind(-1)
        target = torch.zeros(len(frame), self._scores(head).shape[-1], dtype=torch.bool)
        for there, which in at:
            other = which[frame]
            same = (entities[other] == entities[frame, token].unsqueeze(-1)) & there[frame].unsqueeze(-1)
            target.scatter_(1, places[other, :, 1], target.gather(1, places[other, :, 1]) | same)
        return self._missed(head, rows, positions, target)

    def _scores(self, head: Head) -> torch.Tensor:
        found: torch.Tensor = getattr(self._layers[head.layer].self_attn, _KEPT)
        return found

    def _missed(self, head: Head, rows: torch.Tensor, positions: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the mean of -log of the share of attention that goes where it should, over tokens with such."""
        asked = target.any(-1)
        if not asked.any():
            return self._scores(head).new_zeros((), dtype=torch.float32)
        scores = self._scores(head)[rows[asked], head.head, positions[asked]].float()
        right = scores.masked_fill(~target[asked], UNSEEN * 10).logsumexp(-1)
        return functional.relu(scores.logsumexp(-1) - right).mean()
