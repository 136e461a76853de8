"""Probability that a rally begins and ends where it says, from what was seen of it.

A logistic model of three facts, fitted on simulated matches by bench/badminton_rally_confidence.py, which prints the
weights below. "Right" is that exactly one rally was played there and both of its limits are within 0.3 s.
"""

from __future__ import annotations

import math
from typing import Final

from modal_workers.badminton.rallies.ending import Ending

#: Names of the facts, in order.
FACTS: Final = ("unseen_share", "ends_at_net", "place_error_m")
#: The constant, and the weight of each fact.
_WEIGHTS: Final = (4.38, -2.29, -1.25, -1.59)
#: An error of the place of the end counts up to this; it is that of an end whose place is not known.
_MOST_ERROR_M: Final = 2.0
#: No rally of the fits ended otherwise than on the floor or at the net: the end of such a one is hardly known.
_OTHER_END: Final = 0.5


def rally_facts(ending: Ending, seen_share: float) -> tuple[float, float, float]:
    """Return the facts of a rally, each from 0 to 1; ``seen_share``: of its frames with a place of the shuttle."""
    error_m = min(ending.error_m, _MOST_ERROR_M) if math.isfinite(ending.error_m) else _MOST_ERROR_M
    return 1 - seen_share, float(ending.kind == "net"), error_m / _MOST_ERROR_M


def rally_confidence(ending: Ending, seen_share: float) -> float:
    """Return the probability that both limits of a rally are right."""
    constant, *weights = _WEIGHTS
    facts = rally_facts(ending, seen_share)
    log_odds = constant + sum(weight * fact for weight, fact in zip(weights, facts, strict=True))
    known = ending.kind in ("floor", "net")
    return (1.0 if known else _OTHER_END) / (1 + math.exp(-log_odds))
