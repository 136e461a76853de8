"""Token bucket: a rate that may be used at once after a rest, and is refilled by time. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Tokens:
    """Rest of a bucket, as of a time of a monotonic clock."""

    left: float
    at_s: float


@dataclass(frozen=True)
class TokenBucket:
    """Size of a bucket, and how fast it is refilled."""

    most: float
    per_s: float

    def take(self, tokens: Tokens | None, now_s: float, count: float = 1.0) -> tuple[Tokens, float]:
        """Take ``count`` of the tokens, None for a full bucket, and return what is left then.

        The second value is 0, or the time after which so many are there: then nothing was taken. It is infinite where
        nothing is refilled.
        """
        left = self.most if tokens is None else min(self.most, tokens.left + (now_s - tokens.at_s) * self.per_s)
        if left >= count:
            return Tokens(left - count, now_s), 0.0
        return Tokens(left, now_s), (count - left) / self.per_s if self.per_s > 0 else math.inf
