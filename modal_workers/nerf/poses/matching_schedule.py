"""Matching schedule: which photos are matched at which size, and the fallbacks when no poses are found. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal

Matcher = Literal["exhaustive", "sequential", "vocabulary"]
RequestedMatcher = Literal["auto", "exhaustive", "sequential", "vocabulary"]

#: Up to this number all pairs are matched: 1770 pairs of 60 photos take less than a minute on two cores.
EXHAUSTIVE_PHOTOS: Final = 60
#: Up to this number all pairs are matched after something cheaper has failed.
EXHAUSTIVE_AT_MOST: Final = 200
#: Ordered photos: neighbours matched after each photo, and similar photos, which close the ring.
SEQUENTIAL_NEXT: Final = 8
SEQUENTIAL_SIMILAR: Final = 6
#: Unordered photos: similar photos matched with each one.
VOCABULARY_SIMILAR: Final = 24


@dataclass(frozen=True)
class MatchingSettings:
    """Settings of one attempt. Attempts with equal ``features_key`` share their features and matches."""

    matcher: Matcher
    long_side_px: int
    features: int
    peak_threshold: float
    init_min_tri_angle_deg: float
    masked: bool = False
    #: Similar photos to match with each one; 0 where all pairs are matched.
    similar: int = 0
    following: int = 0

    @property
    def features_key(self) -> tuple[int, int, float, bool]:
        """The settings that the features depend on."""
        return self.long_side_px, self.features, self.peak_threshold, self.masked


def matching_schedule(
    photos: int, *, ordered: bool, requested: RequestedMatcher, masks: bool
) -> list[MatchingSettings]:
    """Return the attempts in order; each costs more than the one before.

    ``masks``: whether every photo has one. Masks are used only after the whole photos have failed: the surroundings of
    an object locate the cameras better than the object alone, unless they do not move with it.
    """
    matcher = _first(photos, ordered) if requested == "auto" else requested
    base = _with_pairs(
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
    attempts = [base] if wider is None else [base, _with_pairs(base, wider)]
    # An initial pair with a small baseline; then more features in larger photos.
    closer = replace(attempts[-1], init_min_tri_angle_deg=4.0)
    thorough = replace(closer, long_side_px=2400, features=8192, peak_threshold=0.003)
    attempts += [closer, thorough]
    if masks:
        attempts = [base, replace(base, masked=True), *attempts[1:], replace(thorough, masked=True)]
    return attempts


def _first(photos: int, ordered: bool) -> Matcher:
    if photos <= EXHAUSTIVE_PHOTOS:
        return "exhaustive"
    return "sequential" if ordered else "vocabulary"


def _wider(photos: int, matcher: Matcher) -> Matcher | None:
    """Return the matcher that matches more pairs, for the next attempt; None where all were matched."""
    if matcher == "exhaustive":
        return None
    if photos <= EXHAUSTIVE_AT_MOST:
        return "exhaustive"
    return "vocabulary" if matcher == "sequential" else None


def _with_pairs(settings: MatchingSettings, matcher: Matcher) -> MatchingSettings:
    match matcher:
        case "exhaustive":
            return replace(settings, matcher=matcher, similar=0, following=0)
        case "sequential":
            return replace(settings, matcher=matcher, similar=SEQUENTIAL_SIMILAR, following=SEQUENTIAL_NEXT)
        case "vocabulary":
            return replace(settings, matcher=matcher, similar=VOCABULARY_SIMILAR, following=2)
