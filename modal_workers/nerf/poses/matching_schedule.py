"""Which photos are matched with which, at what size, and what is tried next where that finds no cameras. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal

Matcher = Literal["exhaustive", "sequential", "vocabulary"]
RequestedMatcher = Literal["auto", "exhaustive", "sequential", "vocabulary"]

#: Up to here all pairs are matched: 1770 pairs of 60 photos take less than a minute on two cores.
EXHAUSTIVE_PHOTOS: Final = 60
#: Up to here all pairs may be matched after something cheaper has failed.
EXHAUSTIVE_AT_MOST: Final = 200
#: Of ordered photos, how many after each one; and how many that look alike, which closes the ring.
SEQUENTIAL_NEXT: Final = 8
SEQUENTIAL_ALIKE: Final = 6
#: Of photos without an order, how many that look alike.
VOCABULARY_ALIKE: Final = 24


@dataclass(frozen=True)
class MatchingSettings:
    """One way to try. Rungs with equal ``features_key`` share their database of features and matches."""

    matcher: Matcher
    long_side_px: int
    features: int
    peak_threshold: float
    init_min_tri_angle_deg: float
    masked: bool = False
    #: Photos that look alike, for each one; 0 where all pairs are matched.
    alike: int = 0
    following: int = 0

    @property
    def features_key(self) -> tuple[int, int, float, bool]:
        """Give what the features depend on."""
        return self.long_side_px, self.features, self.peak_threshold, self.masked


def matching_schedule(photos: int, *, ordered: bool, asked: RequestedMatcher, masks: bool) -> list[MatchingSettings]:
    """Give what is tried, in order; each costs more than the one before it.

    ``masks``: whether every photo has one. They come in only after the whole photos have failed: what is around an
    object places the cameras better than the object alone, unless it does not move with it.
    """
    matcher = _first(photos, ordered) if asked == "auto" else asked
    base = _paired(
        MatchingSettings(
            matcher,
            long_side_px=1600 if photos <= 150 else 1200,
            features=4096 if photos <= 150 else 3072,
            peak_threshold=0.0067,
            init_min_tri_angle_deg=16.0,
        ),
        matcher,
    )
    wider = _wider(photos, matcher)
    tries = [base] if wider is None else [base, _paired(base, wider)]
    # A start from two photos that are close to each other; then more features in larger photos.
    closer = replace(tries[-1], init_min_tri_angle_deg=4.0)
    thorough = replace(closer, long_side_px=2400, features=8192, peak_threshold=0.003)
    tries += [closer, thorough]
    if masks:
        tries = [base, replace(base, masked=True), *tries[1:], replace(thorough, masked=True)]
    return tries


def _first(photos: int, ordered: bool) -> Matcher:
    if photos <= EXHAUSTIVE_PHOTOS:
        return "exhaustive"
    return "sequential" if ordered else "vocabulary"


def _wider(photos: int, matcher: Matcher) -> Matcher | None:
    """Give the matcher that matches more pairs, for the next try; None where all were matched."""
    if matcher == "exhaustive":
        return None
    if photos <= EXHAUSTIVE_AT_MOST:
        return "exhaustive"
    return "vocabulary" if matcher == "sequential" else None


def _paired(rung: MatchingSettings, matcher: Matcher) -> MatchingSettings:
    match matcher:
        case "exhaustive":
            return replace(rung, matcher=matcher, alike=0, following=0)
        case "sequential":
            return replace(rung, matcher=matcher, alike=SEQUENTIAL_ALIKE, following=SEQUENTIAL_NEXT)
        case "vocabulary":
            return replace(rung, matcher=matcher, alike=VOCABULARY_ALIKE, following=2)
