"""The result of an analysis in one sentence, wherever people read it."""

from __future__ import annotations

from collections.abc import Sequence


def headline(
    rally_count: int | None, play_s: float | None, distances_m: Sequence[float | None], missing: Sequence[str]
) -> str:
    """Return the sentence, without a full stop."""
    parts = []
    if rally_count is not None:
        rallies = "1 rally" if rally_count == 1 else f"{rally_count} rallies"
        parts.append(f"{rallies}, {play_s:.0f} s of play" if play_s else rallies)
    known = [f"{distance_m:.0f} m" for distance_m in distances_m if distance_m is not None]
    if known:
        parts.append(f"players ran {_enumeration(known)}")
    if missing:
        parts.append(f"missing: {', '.join(missing)}")
    return "; ".join(parts) or "Nothing of a match was found"


def _enumeration(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
