"""Choice of the next token."""

from __future__ import annotations

import torch

from modal_workers.vision_stream.models.model import ChunkRequest


class TokenChoice:
    """Greedy, or drawn from the likeliest tokens with a generator of one chunk's own."""

    def __init__(self, request: ChunkRequest) -> None:
        """Seed the generator: a chunk's draws depend on its seed and its time only."""
        self._temperature, self._top_p = request.temperature, request.top_p
        # on the CPU, so that a seed means the same on every device
        self._generator = torch.Generator().manual_seed(request.chunk_seed)

    def choose(self, logits: torch.Tensor) -> int:
        """Return the next token for the logits of the whole vocabulary; those of -inf are never chosen."""
        if self._temperature == 0:
            return int(logits.argmax())
        probabilities, tokens = torch.softmax(logits.float() / self._temperature, dim=-1).sort(descending=True)
        total = probabilities.cumsum(0)
        # the fewest tokens that make up top_p: the first one always
        kept = int((total - probabilities < self._top_p).sum())
        drawn = torch.rand((), generator=self._generator).item() * float(total[kept - 1])
        return int(tokens[min(int((total[:kept] <= drawn).sum()), kept - 1)])
