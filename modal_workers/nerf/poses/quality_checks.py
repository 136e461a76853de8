"""Whether a model may be believed, which of its photos, and what to tell a user where there is none. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from contracts.errors import ErrorCode, SaccadeError
from modal_workers.nerf.poses.colmap.database import MatchCounts
from modal_workers.nerf.poses.colmap.model_files import SparseModel
from modal_workers.nerf.poses.world_frame import find_world_frame

#: Fewer cannot show an object from all sides.
LEAST_PHOTOS: Final = 8
#: Of the photos given. Below WHOLE it goes on with a warning.
LEAST_SHARE: Final = 0.6
WHOLE_SHARE: Final = 0.95
#: Two photos hold each other with that many points; global mapping put 13 of 50 elsewhere, and this graph showed it.
LEAST_SHARED: Final = 15
LEAST_SEEN: Final = 20
MEDIAN_SEEN: Final = 40
MOST_ERROR_PX: Final = 2.0
LEAST_TRACK: Final = 2.5
#: How much farther from its nearest neighbour than the median camera one may be: 10 in a good model, 363 in a torn one.
MOST_STEP: Final = 30.0
#: Of the photos that stand within that angle of each other, how many must share points: all do in a good model, 7 of 10
#: where a toy's left side was laid over its right one.
SIDE_BY_SIDE_DEG: Final = 20.0
LEAST_HELD: Final = 0.8
_SAME_DISTANCE: Final = 1.6
TWINS: Final = "photos that would stand side by side do not show the same"
#: Inliers with which two photos are held to show the same.
_LEAST_INLIERS: Final = 15
_FEW_FEATURES: Final = 100
_NAMED: Final = 8
#: So many matches at one place in two photos are a room that stands still; in so many of the pairs, no accident.
_STILL_MATCHES: Final = 20
_STILL_SHARE: Final = 0.3


@dataclass(frozen=True)
class CheckedModel:
    """A model and what is believed of it."""

    model: SparseModel
    #: Places in ``model.photos`` of those that are believed.
    kept: tuple[int, ...]
    components: int
    #: Why it is not to be used; empty where it is.
    problem: str

    @property
    def names(self) -> list[str]:
        """Give the names of the photos that are believed."""
        return [self.model.photos[place].name for place in self.kept]


def check_model(model: SparseModel, files: Sequence[str], matched: MatchCounts) -> CheckedModel:
    """Judge one model of a capture; ``files`` names its photos in the order that ``matched`` has."""
    shared = model.shared_points
    parts = components(shared >= LEAST_SHARED)
    largest = max(parts, key=len, default=[])
    seen, stray = model.points_seen, _strays(model.centres)
    kept = tuple(place for place in largest if seen[place] >= LEAST_SEEN and not stray[place])
    problem = _problem(model, kept, len(files))
    if not problem:
        place_of = {name: place for place, name in enumerate(files)}
        here = [place_of[model.photos[place].name] for place in kept]
        held = _neighbours_held(model, kept, matched.tried[np.ix_(here, here)])
        if held < LEAST_HELD:
            problem = TWINS
    return CheckedModel(model, kept, len(parts), problem)


def _neighbours_held(model: SparseModel, kept: Sequence[int], tried: NDArray[np.bool_]) -> float:
    """Give how many of the photos that the model puts side by side share points, of those that were compared.

    Where two sides of an object look alike, mapping lays one over the other: each photo still fits those of its own
    side, but stands between others that show something else.
    """
    world_from_camera = np.array([model.photos[place].world_from_camera for place in kept])
    centres = find_world_frame(world_from_camera).moved(world_from_camera)[:, :3, 3]
    distances = np.linalg.norm(centres, axis=1)
    towards = centres / distances[:, None]
    beside = np.triu(towards @ towards.T > np.cos(np.radians(SIDE_BY_SIDE_DEG)), 1) & tried
    beside &= np.maximum(distances[:, None] / distances, distances / distances[:, None]) < _SAME_DISTANCE
    if not beside.any():
        return 1.0
    return float((model.shared_points[np.ix_(kept, kept)] >= LEAST_SHARED)[beside].mean())


def _problem(model: SparseModel, kept: Sequence[int], photos: int) -> str:
    if len(kept) < LEAST_PHOTOS or len(kept) < LEAST_SHARE * photos:
        return f"only {len(kept)} of {photos} photos could be placed together"
    if np.median(model.points_seen[list(kept)]) < MEDIAN_SEEN:
        return "the photos share too few points to be held in place"
    if float(model.error_px.mean()) > MOST_ERROR_PX:
        return f"points are {float(model.error_px.mean()):.1f} px off on average"
    if float(model.track_length.mean()) < LEAST_TRACK:
        return "most points are seen by two photos only"
    return ""


def _strays(centres: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Tell which cameras are far away from all others."""
    if len(centres) < 3:
        return np.zeros(len(centres), np.bool_)
    distances = np.linalg.norm(centres[:, None] - centres[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    nearest = distances.min(axis=1)
    stray: NDArray[np.bool_] = nearest > MOST_STEP * max(float(np.median(nearest)), 1e-12)
    return stray


def components(linked: NDArray[np.bool_]) -> list[list[int]]:
    """Give the connected parts of a graph, each sorted, by its first member."""
    left, parts = set(range(len(linked))), []
    while left:
        part, edge = set[int](), {min(left)}
        while edge:
            part |= edge
            edge = {int(other) for one in edge for other in np.flatnonzero(linked[one])} - part
        left -= part
        parts.append(sorted(part))
    return parts


def check_matches(matched: MatchCounts) -> str:
    """Give why mapping is not worth its time, or not to be believed; empty where it is."""
    parts = components(matched.inliers >= _LEAST_INLIERS)
    if max((len(part) for part in parts), default=0) < LEAST_PHOTOS:
        return "too few photos match each other"
    return "what is around the object stands still" if background_is_static(matched) else ""


def background_is_static(matched: MatchCounts) -> bool:
    """Tell whether what is around the object does not move with it: cameras would be held by the wrong thing."""
    pairs = np.triu(matched.candidates >= _STILL_MATCHES, 1)
    still = np.triu(matched.still >= _STILL_MATCHES, 1)
    return int(still.sum()) > _STILL_SHARE * max(1, int(pairs.sum()))


def has_separate_models(groups: Sequence[int], photos: int) -> bool:
    """Tell whether nearly all photos are in models that could each stand alone: no other try will join them."""
    wholes = [size for size in groups if size >= LEAST_PHOTOS]
    return len(wholes) > 1 and sum(wholes) >= 0.9 * photos


def failure_reason(
    names: Sequence[str], groups: Sequence[int], matched: MatchCounts | None, problem: str = ""
) -> SaccadeError:
    """Explain why there are no cameras, by what was found on the way.

    ``names``: of all photos, as a user knows them; ``groups``: how many of them each model of the best try placed, the
    largest first; ``matched``: what the last try found; ``problem``: of the last model that there was.
    """
    photos = len(names)
    if photos < LEAST_PHOTOS:
        return SaccadeError(
            ErrorCode.POSES_NOT_FOUND,
            f"{_counted(photos)} cannot show an object from all sides: at least {LEAST_PHOTOS} are needed.",
            hint="Take 30 to 60 photos in one or more rings around the object, each a step of about 10 degrees.",
        )
    if problem == TWINS:
        return SaccadeError(
            ErrorCode.POSES_NOT_FOUND,
            "Two sides of the object look so much alike that one was taken for the other.",
            hint="Put it on a textured ground, a newspaper for instance, with a few different things around it.",
        )
    large = [size for size in groups if size >= max(5, 0.15 * photos)]
    if len(large) > 1:
        sizes = " and ".join(str(size) for size in large)
        return SaccadeError(
            ErrorCode.POSES_SPLIT,
            f"The photos fall into groups of {sizes} that do not show the same thing, or that no photo connects.",
        )
    if matched is not None and (told := _why_unmatched(names, matched)) is not None:
        return told
    placed = max(groups, default=0)
    found = f"only {placed} of {photos} could be placed together" if placed else "none could be placed"
    return SaccadeError(
        ErrorCode.POSES_NOT_FOUND,
        f"The photos match each other, but {found}.",
        hint="Walk around the object in steps of about 10 degrees (36 a ring); turning on the spot does not help.",
    )


def _why_unmatched(names: Sequence[str], matched: MatchCounts) -> SaccadeError | None:
    photos = len(names)
    plain = [name for name, found in zip(names, matched.features, strict=True) if found < _FEW_FEATURES]
    if len(plain) > photos / 2:
        return SaccadeError(
            ErrorCode.POSES_NOT_FOUND,
            f"{len(plain)} of {photos} photos are blurred or show too little texture: {list_names(plain)}.",
            hint="Hold still in good light, and put the object on a textured ground such as a newspaper.",
        )
    size = np.minimum(matched.features[:, None], matched.features[None])
    same = (matched.candidates > 0.7 * size) & (matched.inliers < _LEAST_INLIERS) & (size > 0)
    if np.count_nonzero(same.any(axis=1)) > photos / 2:
        return SaccadeError(
            ErrorCode.POSES_NOT_FOUND,
            "Most photos are the same picture: nothing in them moves against the rest.",
            hint="Walk around the object, a step of about 10 degrees from photo to photo.",
        )
    if background_is_static(matched):
        return SaccadeError(
            ErrorCode.POSES_NOT_FOUND,
            "The object turns, but what is around it stands still: where the camera was cannot be told from that.",
            hint="On a turntable, use a plain background or send masks of the object; or walk around the object.",
        )
    parts = components(matched.inliers >= _LEAST_INLIERS)
    alone = [names[part[0]] for part in parts if len(part) == 1]
    if len(alone) > photos / 2:
        return SaccadeError(
            ErrorCode.POSES_NOT_FOUND,
            f"{len(alone)} of {photos} photos share nothing with any other: {list_names(alone)}.",
            hint="Let each photo show most of what the one before it shows: a step of about 10 degrees.",
        )
    large = sorted((len(part) for part in parts if len(part) >= max(5, 0.15 * photos)), reverse=True)
    if len(large) > 1:
        sizes = " and ".join(str(size) for size in large)
        return SaccadeError(ErrorCode.POSES_SPLIT, f"The photos fall into groups of {sizes} that share nothing.")
    return None


def list_names(names: Sequence[str]) -> str:
    """Name a few, and how many more there are."""
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _counted(photos: int) -> str:
    return "One photo" if photos == 1 else f"{photos} photos"
