"""Which photos to match: all, those after each other, or those that look alike by a description of our own.

A vocabulary tree is a download of hundreds of megabytes made from other people's photos; the description here is made
from the photos themselves: VLAD over a small vocabulary (Jégou et al., "Aggregating local descriptors into a compact
image representation", CVPR 2010), with signed square roots and intra-normalisation (Arandjelović and Zisserman, "All
about VLAD", CVPR 2013).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

IndexPair = tuple[int, int]
Floats = NDArray[np.float32]

WORDS: Final = 48
#: Descriptors of each photo that are used, and of all photos that the vocabulary is made from.
SAMPLE: Final = 600
_LEARNT_FROM: Final = 40_000
_ROUNDS: Final = 8
#: Photos a side of a block of pairs: their descriptors are indexed once for all pairs of the block.
_TILE: Final = 12


def all_pairs(photos: int) -> list[IndexPair]:
    """Give every pair."""
    return [(one, other) for one in range(photos) for other in range(one + 1, photos)]


def following_pairs(photos: int, following: int) -> list[IndexPair]:
    """Give each photo with the ``following`` ones after it."""
    return [(one, other) for one in range(photos) for other in range(one + 1, min(photos, one + following + 1))]


def similar_pairs(descriptors: Sequence[NDArray[np.uint8]], alike: int, seed: int) -> list[IndexPair]:
    """Give each photo with the ``alike`` ones that look most like it; ``descriptors`` are [n, 128] a photo."""
    likeness = _likeness(descriptors, seed)
    np.fill_diagonal(likeness, -np.inf)
    best = np.argsort(-likeness, axis=1, kind="stable")[:, :alike]
    return [
        (min(one, int(other)), max(one, int(other)))
        for one in range(len(descriptors))
        for other in best[one]
        if np.isfinite(likeness[one, other])
    ]


def blocks(pairs: Iterable[IndexPair]) -> list[list[IndexPair]]:
    """Sort pairs, without repetitions, into blocks of few photos each; always in the same order."""
    tiles: dict[IndexPair, list[IndexPair]] = {}
    for one, other in sorted(set(pairs)):
        tiles.setdefault((one // _TILE, other // _TILE), []).append((one, other))
    return [tiles[tile] for tile in sorted(tiles)]


def _likeness(descriptors: Sequence[NDArray[np.uint8]], seed: int) -> Floats:
    rng = np.random.default_rng(seed)
    samples = [_root(rows[np.sort(rng.permutation(len(rows))[:SAMPLE])]) for rows in descriptors]
    together = np.concatenate([np.zeros((0, 128), np.float32), *samples])
    if len(together) < WORDS:
        return np.zeros((len(descriptors), len(descriptors)), np.float32)
    words = _vocabulary(together[np.sort(rng.permutation(len(together))[:_LEARNT_FROM])], rng)
    described = np.array([_vlad(rows, words) for rows in samples])
    likeness: Floats = described @ described.T
    return likeness


def _root(rows: NDArray[np.uint8]) -> Floats:
    wide = rows.astype(np.float32)
    norms = np.linalg.norm(wide, axis=1, keepdims=True)
    unit: Floats = wide / np.maximum(norms, 1e-6)
    return unit


def _vocabulary(rows: Floats, rng: np.random.Generator) -> Floats:
    """Give ``WORDS`` means of Lloyd's algorithm."""
    words = rows[np.sort(rng.choice(len(rows), WORDS, replace=False))]
    for _ in range(_ROUNDS):
        nearest = _nearest(rows, words)
        counts = np.bincount(nearest, minlength=WORDS)
        sums = np.zeros_like(words)
        np.add.at(sums, nearest, rows)
        words = np.where(counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None], words).astype(np.float32)
    return words


def _nearest(rows: Floats, words: Floats) -> NDArray[np.intp]:
    nearest: NDArray[np.intp] = np.argmin((words**2).sum(axis=1) - 2 * rows @ words.T, axis=1)
    return nearest


def _vlad(rows: Floats, words: Floats) -> Floats:
    described = np.zeros_like(words)
    if len(rows):
        nearest = _nearest(rows, words)
        np.add.at(described, nearest, rows - words[nearest])
    described /= np.maximum(np.linalg.norm(described, axis=1, keepdims=True), 1e-6)
    flat = (np.sign(described) * np.sqrt(np.abs(described))).ravel()
    unit: Floats = (flat / max(float(np.linalg.norm(flat)), 1e-6)).astype(np.float32)
    return unit
