"""Quality checks of a reconstruction: whether it is plausible, which images to keep, and why none was found. Pure."""

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

#: Fewer photos cannot show an object from all sides.
MIN_PHOTOS: Final = 8
#: Minimum share of the photos. Below WHOLE_SHARE a warning is added.
MIN_SHARE: Final = 0.6
WHOLE_SHARE: Final = 0.95
#: Points that connect two images. Global mapping misplaced 13 of 50 images, and this graph showed it.
MIN_SHARED_POINTS: Final = 15
MIN_POINTS_SEEN: Final = 20
MIN_MEDIAN_POINTS_SEEN: Final = 40
MAX_ERROR_PX: Final = 2.0
MIN_TRACK_LENGTH: Final = 2.5
#: Maximum distance of a camera from its nearest neighbour, over the median: 10 in a good model, 363 in a torn one.
MAX_STEP: Final = 30.0
#: Of the cameras within this angle of each other, the share that must share points: all do in a good model, 7 of 10
#: where a toy's left side was laid over its right one.
SIDE_BY_SIDE_DEG: Final = 20.0
LINKED_NEIGHBOURS_MIN: Final = 0.8
_SAME_DISTANCE: Final = 1.6
SIDES_CONFUSED: Final = "photos that would stand side by side do not show the same"
#: Inliers from which two photos count as overlapping.
_MIN_INLIERS: Final = 15
_FEW_FEATURES: Final = 100
_NAMED: Final = 8
#: Matches that do not move, in one pair, that show a static background; and the share of such pairs.
_STILL_MATCHES: Final = 20
_STILL_SHARE: Final = 0.3


@dataclass(frozen=True)
class CheckedModel:
    """A model and the images that passed the checks."""

    model: SparseModel
    #: Indices in ``model.images`` of the images that passed.
    kept: tuple[int, ...]
    components: int
    #: Why the model is rejected; empty where it is accepted.
    problem: str

    @property
    def names(self) -> list[str]:
        """Names of the images that passed."""
        return [self.model.images[place].name for place in self.kept]


def check_model(model: SparseModel, files: Sequence[str], matched: MatchCounts) -> CheckedModel:
    """Check one model of a capture; ``files`` has its photos in the order of ``matched``."""
    shared = model.shared_points
    parts = components(shared >= MIN_SHARED_POINTS)
    largest = max(parts, key=len, default=[])
    points_seen, outlier = model.points_seen, _outliers(model.centres)
    kept = tuple(place for place in largest if points_seen[place] >= MIN_POINTS_SEEN and not outlier[place])
    problem = _problem(model, kept, len(files))
    if not problem:
        place_of = {name: place for place, name in enumerate(files)}
        indices = [place_of[model.images[place].name] for place in kept]
        linked_share = _linked_neighbours(model, kept, matched.tried[np.ix_(indices, indices)])
        if linked_share < LINKED_NEIGHBOURS_MIN:
            problem = SIDES_CONFUSED
    return CheckedModel(model, kept, len(parts), problem)


def _linked_neighbours(model: SparseModel, kept: Sequence[int], tried: NDArray[np.bool_]) -> float:
    """Return the share of the neighbouring cameras that share points, of the pairs that were matched.

    Where two sides of an object look alike, mapping lays one over the other: each image fits those of its own side, but
    stands between images that show something else.
    """
    world_from_camera = np.array([model.images[place].world_from_camera for place in kept])
    centres = find_world_frame(world_from_camera).moved(world_from_camera)[:, :3, 3]
    distances = np.linalg.norm(centres, axis=1)
    directions = centres / distances[:, None]
    neighbours = np.triu(directions @ directions.T > np.cos(np.radians(SIDE_BY_SIDE_DEG)), 1) & tried
    neighbours &= np.maximum(distances[:, None] / distances, distances / distances[:, None]) < _SAME_DISTANCE
    if not neighbours.any():
        return 1.0
    return float((model.shared_points[np.ix_(kept, kept)] >= MIN_SHARED_POINTS)[neighbours].mean())


def _problem(model: SparseModel, kept: Sequence[int], photos: int) -> str:
    if len(kept) < MIN_PHOTOS or len(kept) < MIN_SHARE * photos:
        return f"only {len(kept)} of {photos} photos could be registered in one model"
    if np.median(model.points_seen[list(kept)]) < MIN_MEDIAN_POINTS_SEEN:
        return "the photos share too few points for stable poses"
    if float(model.error_px.mean()) > MAX_ERROR_PX:
        return f"points have a mean reprojection error of {float(model.error_px.mean()):.1f} px"
    if float(model.track_length.mean()) < MIN_TRACK_LENGTH:
        return "most points are seen by two photos only"
    return ""


def _outliers(centres: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which cameras are far from all others."""
    if len(centres) < 3:
        return np.zeros(len(centres), np.bool_)
    distances = np.linalg.norm(centres[:, None] - centres[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    nearest = distances.min(axis=1)
    outlier: NDArray[np.bool_] = nearest > MAX_STEP * max(float(np.median(nearest)), 1e-12)
    return outlier


def components(linked: NDArray[np.bool_]) -> list[list[int]]:
    """Return the connected components of a graph, each sorted, ordered by first member."""
    remaining, parts = set(range(len(linked))), []
    while remaining:
        part, edge = set[int](), {min(remaining)}
        while edge:
            part |= edge
            edge = {int(other) for node in edge for other in np.flatnonzero(linked[node])} - part
        remaining -= part
        parts.append(sorted(part))
    return parts


def check_matches(matched: MatchCounts) -> str:
    """Return why mapping would waste time or give a wrong result; empty where it is worth it."""
    parts = components(matched.inliers >= _MIN_INLIERS)
    if max((len(part) for part in parts), default=0) < MIN_PHOTOS:
        return "too few photos match each other"
    return "the background stands still" if background_is_static(matched) else ""


def background_is_static(matched: MatchCounts) -> bool:
    """Return whether the background does not move with the object, so that it would determine the poses."""
    pairs = np.triu(matched.candidates >= _STILL_MATCHES, 1)
    still = np.triu(matched.still >= _STILL_MATCHES, 1)
    return int(still.sum()) > _STILL_SHARE * max(1, int(pairs.sum()))


def has_separate_models(groups: Sequence[int], photos: int) -> bool:
    """Return whether nearly all photos are in models that are complete by themselves: no attempt joins them."""
    complete = [size for size in groups if size >= MIN_PHOTOS]
    return len(complete) > 1 and sum(complete) >= 0.9 * photos


def failure_reason(
    names: Sequence[str], groups: Sequence[int], matched: MatchCounts | None, problem: str = ""
) -> SaccadeError:
    """Return the error that explains why no poses were found.

    Args:
        names: Original names of all photos.
        groups: Photos in each model of the best attempt, largest first.
        matched: Match counts of the last attempt.
        problem: Problem of the last model, if any.
    """
    photos = len(names)
    if photos < MIN_PHOTOS:
        return SaccadeError(
            ErrorCode.POSES_NOT_FOUND,
            f"{_counted(photos)} cannot show an object from all sides: at least {MIN_PHOTOS} are needed.",
            hint="Take 30 to 60 photos in one or more rings around the object, each a step of about 10 degrees.",
        )
    if problem == SIDES_CONFUSED:
        return SaccadeError(
            ErrorCode.POSES_NOT_FOUND,
            "Two sides of the object look so much alike that one was taken for the other.",
            hint="Put it on a textured surface such as a newspaper, with a few different things around it.",
        )
    large = [size for size in groups if size >= max(5, 0.15 * photos)]
    if len(large) > 1:
        sizes = " and ".join(str(size) for size in large)
        return SaccadeError(
            ErrorCode.POSES_SPLIT,
            f"The photos fall into groups of {sizes} that do not show the same thing, or that no photo connects.",
        )
    if matched is not None and (reason := _why_unmatched(names, matched)) is not None:
        return reason
    placed = max(groups, default=0)
    found = f"only {placed} of {photos} could be registered in one model" if placed else "none could be registered"
    return SaccadeError(
        ErrorCode.POSES_NOT_FOUND,
        f"The photos match each other, but {found}.",
        hint="Walk around the object in steps of about 10 degrees (36 per ring); turning on the spot does not help.",
    )


def _why_unmatched(names: Sequence[str], matched: MatchCounts) -> SaccadeError | None:
    photos = len(names)
    featureless = [name for name, found in zip(names, matched.features, strict=True) if found < _FEW_FEATURES]
    if len(featureless) > photos / 2:
        return SaccadeError(
            ErrorCode.POSES_NOT_FOUND,
            f"{len(featureless)} of {photos} photos are blurred or show too little texture: {list_names(featureless)}.",
            hint="Hold still in good light, and put the object on a textured surface such as a newspaper.",
        )
    size = np.minimum(matched.features[:, None], matched.features[None])
    same = (matched.candidates > 0.7 * size) & (matched.inliers < _MIN_INLIERS) & (size > 0)
    if np.count_nonzero(same.any(axis=1)) > photos / 2:
        return SaccadeError(
            ErrorCode.POSES_NOT_FOUND,
            "Most photos are the same picture: nothing moves from photo to photo.",
            hint="Walk around the object, a step of about 10 degrees from photo to photo.",
        )
    if background_is_static(matched):
        return SaccadeError(
            ErrorCode.POSES_NOT_FOUND,
            "The object turns, but the background stands still, so the camera poses cannot be computed.",
            hint="On a turntable, use a plain background or send masks of the object; or walk around the object.",
        )
    parts = components(matched.inliers >= _MIN_INLIERS)
    alone = [names[part[0]] for part in parts if len(part) == 1]
    if len(alone) > photos / 2:
        return SaccadeError(
            ErrorCode.POSES_NOT_FOUND,
            f"{len(alone)} of {photos} photos share nothing with any other: {list_names(alone)}.",
            hint="Each photo must show most of what the previous one shows: move about 10 degrees between photos.",
        )
    large = sorted((len(part) for part in parts if len(part) >= max(5, 0.15 * photos)), reverse=True)
    if len(large) > 1:
        sizes = " and ".join(str(size) for size in large)
        return SaccadeError(ErrorCode.POSES_SPLIT, f"The photos fall into groups of {sizes} that share nothing.")
    return None


def list_names(names: Sequence[str]) -> str:
    """Return a few names, and how many more there are."""
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _counted(photos: int) -> str:
    return "One photo" if photos == 1 else f"{photos} photos"
