"""Selection of the pairs to match: all, neighbours in order, or similar photos.

Similarity is VLAD over a small vocabulary made from the photos themselves (Jégou et al., "Aggregating local descriptors
into a compact image representation", CVPR 2010), with signed square roots and intra-normalisation (Arandjelović and
Zisserman, "All about VLAD", CVPR 2013). A vocabulary tree would be a download of hundreds of megabytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

IndexPair = tuple[int, int]
Floats = NDArray[np.float32]

WORDS: Final = 48
#: Descriptors used per photo, and descriptors of all photos for the vocabulary.
SAMPLE: Final = 600
_VOCABULARY_SAMPLES: Final = 40_000
_ITERATIONS: Final = 8
#: Photos per side of a block of pairs: their descriptors are read once for all pairs of the block.
_TILE: Final = 12


def all_pairs(photos: int) -> list[IndexPair]:
    """Return every pair."""
    return [(first, second) for first in range(photos) for second in range(first + 1, photos)]


def following_pairs(photos: int, following: int) -> list[IndexPair]:
    """Return each photo with the ``following`` photos after it."""
    return [
        (first, second) for first in range(photos) for second in range(first + 1, min(photos, first + following + 1))
    ]


def similar_pairs(descriptors: Sequence[NDArray[np.uint8]], similar: int, seed: int) -> list[IndexPair]:
    """Return each photo with its ``similar`` most similar ones; ``descriptors`` are [n, 128] per photo."""
    similarity = _similarity(descriptors, seed)
    np.fill_diagonal(similarity, -np.inf)
    best = np.argsort(-similarity, axis=1, kind="stable")[:, :similar]
    return [
        (min(photo, int(other)), max(photo, int(other)))
        for photo in range(len(descriptors))
        for other in best[photo]
        if np.isfinite(similarity[photo, other])
    ]


def blocks(pairs: Iterable[IndexPair]) -> list[list[IndexPair]]:
    """Group unique pairs into blocks of few photos each, in a fixed order."""
    tiles: dict[IndexPair, list[IndexPair]] = {}
    for first, second in sorted(set(pairs)):
        tiles.setdefault((first // _TILE, second // _TILE), []).append((first, second))
    return [tiles[tile] for tile in sorted(tiles)]


def _similarity(descriptors: Sequence[NDArray[np.uint8]], seed: int) -> Floats:
    rng = np.random.default_rng(seed)
    samples = [_root(rows[np.sort(rng.permutation(len(rows))[:SAMPLE])]) for rows in descriptors]
    all_samples = np.concatenate([np.zeros((0, 128), np.float32), *samples])
    if len(all_samples) < WORDS:
        return np.zeros((len(descriptors), len(descriptors)), np.float32)
    words = _vocabulary(all_samples[np.sort(rng.permutation(len(all_samples))[:_VOCABULARY_SAMPLES])], rng)
    described = np.array([_vlad(rows, words) for rows in samples])
    similarity: Floats = described @ described.T
    return similarity


def _root(rows: NDArray[np.uint8]) -> Floats:
    wide = rows.astype(np.float32)
    norms = np.linalg.norm(wide, axis=1, keepdims=True)
    unit: Floats = wide / np.maximum(norms, 1e-6)
    return unit


def _vocabulary(rows: Floats, rng: np.random.Generator) -> Floats:
    """Return ``WORDS`` cluster centres (Lloyd)."""
    words = rows[np.sort(rng.choice(len(rows), WORDS, replace=False))]
    for _ in range(_ITERATIONS):
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
