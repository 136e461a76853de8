"""The samples of a clip at which the car moves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from modal_workers.road_video.descriptors import ClipDescriptors, centred_vectors

Floats = NDArray[np.float64]
Values = NDArray[np.float32]

#: A frame that changes less than this share of the clip's median shows a car at rest.
REST_SHARE: Final = 0.12
REST_S: Final = 0.5


@dataclass(frozen=True)
class MovingSamples:
    """The samples of a clip at which the car moves.

    Shapes: index [M] into the descriptors; clock_s [M] runs only while the car moves.
    """

    index: NDArray[np.int64]
    clock_s: Floats
    vectors: Values  # [M, LENGTH] unit


def drop_rests(descriptors: ClipDescriptors, mask: Values | None = None) -> MovingSamples:
    """Return the samples without rests of 0.5 s and more: at rest all frames are equal and no match is better.

    ``mask`` [LENGTH] is 0 for the cells that the other clip does not cover.
    """
    time = descriptors.time_s
    at_rest = rest_mask(descriptors)
    index = np.flatnonzero(~at_rest)
    step = np.diff(time[index], prepend=time[index[:1]])
    nominal = float(np.median(np.diff(time)))
    gap = np.diff(index, prepend=index[:1]) > 1
    clock = np.cumsum(np.where(gap, nominal, step))
    return MovingSamples(index, clock, centred_vectors(descriptors, mask)[index])


def rest_mask(descriptors: ClipDescriptors) -> NDArray[np.bool_]:
    """Return for every sample [N] whether the car stands still for half a second around it."""
    activity = descriptors.activity
    quiet = activity < max(0.35, REST_SHARE * float(np.median(activity)))
    edges = np.flatnonzero(np.diff(np.concatenate([[0], quiet.astype(np.int8), [0]])))
    rest = np.zeros(len(quiet), bool)
    for first, last in zip(edges[::2], edges[1::2], strict=True):
        if descriptors.time_s[last - 1] - descriptors.time_s[first] >= REST_S:
            rest[first:last] = True
    return rest
