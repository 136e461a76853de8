"""Descriptors of drives that are made of parts, without a video."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from modal_workers.road_video.descriptors import CELLS, DIRECTIONS
from modal_workers.road_video.moving_samples import MovingSamples

RATE_HZ = 10
_LENGTH = CELLS[0] * CELLS[1] * DIRECTIONS


def stretch(random: np.random.Generator, seconds: int) -> NDArray[np.float32]:
    """Return descriptors that change within half a second."""
    noise = random.uniform(size=(seconds * RATE_HZ + 4, _LENGTH))
    return np.asarray(sum(noise[shift : shift - 4 or None] for shift in range(4)), np.float32)[: seconds * RATE_HZ]


def moving_samples(*parts: NDArray[np.float32]) -> MovingSamples:
    """Return the samples of a drive through the parts, one after the other."""
    vectors = np.concatenate(parts)
    vectors -= vectors.mean(1, keepdims=True)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return MovingSamples(np.arange(len(vectors)), np.arange(len(vectors)) / RATE_HZ, vectors)
