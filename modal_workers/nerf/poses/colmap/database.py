"""Reader of pycolmap's database of features and matches; only after the process that writes it has exited."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

#: Pair ids are computed from image ids: https://colmap.github.io/database.html
_MAX_IMAGES: Final = 2147483647
#: A match that moved less than this share of the image width, or this many pixels, did not move.
_STILL: Final = 0.0015
_STILL_PX: Final = 1.5
#: Minimum spread of the static matches (standard deviation over the width); a caption has less.
_SPREAD: Final = 0.12
#: Minimum share of all matches of the pair; in a slow walk around an object a few hardly move either.
_STILL_SHARE: Final = 0.2


@dataclass(frozen=True)
class MatchCounts:
    """Features per photo and matches per pair, photos in the order of their names."""

    features: NDArray[np.int64]
    #: [N, N], symmetric: matches that agree with one geometry.
    inliers: NDArray[np.int64]
    #: [N, N], symmetric: matches before verification.
    candidates: NDArray[np.int64]
    #: [N, N], symmetric: whether the pair was matched at all.
    tried: NDArray[np.bool_]
    #: [N, N], symmetric: candidates that did not move, where they are spread over the image.
    still: NDArray[np.int64]


def read_descriptors(database: Path, names: Sequence[str]) -> list[NDArray[np.uint8]]:
    """Return the descriptors [n, 128] of each photo; an empty array for a photo without any."""
    with _opened(database) as connection:
        rows = connection.execute(
            "SELECT name, rows, cols, data FROM images JOIN descriptors USING (image_id) ORDER BY image_id"
        )
        found = {
            name: np.frombuffer(data or b"", np.uint8).reshape(count, width or 128) for name, count, width, data in rows
        }
    return [found.get(name, np.zeros((0, 128), np.uint8)) for name in names]


def read_match_counts(database: Path, names: Sequence[str]) -> MatchCounts:
    """Count features and matches."""
    index_of = {name: number for number, name in enumerate(names)}
    with _opened(database) as connection:
        ids = {
            image_id: index_of[name]
            for image_id, name in connection.execute("SELECT image_id, name FROM images")
            if name in index_of
        }
        keypoints: dict[int, NDArray[np.float32]] = {}
        for image_id, count, width, data in connection.execute("SELECT image_id, rows, cols, data FROM keypoints"):
            if image_id in ids:
                keypoints[ids[image_id]] = np.frombuffer(data or b"", np.float32).reshape(count, width or 6)[:, :2]
        features = np.array([len(keypoints.get(number, ())) for number in range(len(names))], np.int64)
        inliers, candidates, still = (np.zeros((len(names), len(names)), np.int64) for _ in range(3))
        tried = np.zeros((len(names), len(names)), np.bool_)
        for first, second, count, _ in _pair_rows(
            connection, "SELECT pair_id, rows, NULL FROM two_view_geometries", ids
        ):
            inliers[first, second] = inliers[second, first] = count
        for first, second, count, data in _pair_rows(connection, "SELECT pair_id, rows, data FROM matches", ids):
            candidates[first, second] = candidates[second, first] = count
            tried[first, second] = tried[second, first] = True
            rows = np.frombuffer(data or b"", np.uint32).reshape(-1, 2)
            still[first, second] = still[second, first] = _still(
                keypoints[first][rows[:, 0]], keypoints[second][rows[:, 1]]
            )
    return MatchCounts(features, inliers, candidates, tried, still)


def _still(first: NDArray[np.float32], second: NDArray[np.float32]) -> int:
    """Count matches [n, 2] px that do not move, spread over the image; 0 where they are few, or in one corner."""
    if len(first) < 2:
        return 0
    width = float(first[:, 0].max())
    same = first[np.linalg.norm(first - second, axis=1) < max(_STILL_PX, _STILL * width)]
    if len(same) < max(2.0, _STILL_SHARE * len(first)):
        return 0
    return len(same) if float(same[:, 0].std()) > _SPREAD * width else 0


def _pair_rows(
    connection: sqlite3.Connection, query: str, ids: dict[int, int]
) -> Iterator[tuple[int, int, int, bytes | None]]:
    for pair_id, count, data in connection.execute(query):
        second = pair_id % _MAX_IMAGES
        first = (pair_id - second) // _MAX_IMAGES
        if first in ids and second in ids:
            yield ids[first], ids[second], count, data


@contextmanager
def _opened(database: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as connection:
        yield connection
