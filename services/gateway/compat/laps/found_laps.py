"""Laps of a detection in the replaced system's words. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

#: The page takes the first two laps as A and B, so out-laps, in-laps and those through the pits come last.
_SLOW_SHARE: Final = 0.5


def found_laps(result: Mapping[str, Any], most: int) -> dict[str, Any]:
    """Return the answer of ``detect-laps`` for a result: the most certain laps first, slow ones after the others.

    ``score`` is the confidence, halved for slow laps. Where nothing was found ``detail`` says why.
    """
    scored = [
        {
            "start_s": round(lap["start_s"], 3),
            "end_s": round(lap["end_s"], 3),
            "score": round(lap["confidence"] * (_SLOW_SHARE if lap["slow"] else 1.0), 4),
        }
        for lap in result.get("laps", ())
    ]
    laps = sorted(scored, key=lambda lap: (-lap["score"], lap["start_s"]))[:most]
    return {"laps": laps} if laps else {"laps": [], "detail": result.get("explanation", "")}
