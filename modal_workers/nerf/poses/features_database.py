"""What stands in pycolmap's database of features and matches; read only after the process that wrote it has ended."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

#: A pair's id is made from those of its photos: https://colmap.github.io/database.html
_MOST_IMAGES: Final = 2147483647


@dataclass(frozen=True)
class Matched:
    """What was found, photo by photo in the order of their names."""

    features: NDArray[np.int64]
    #: [N, N], symmetric: matches that one geometry explains.
    inliers: NDArray[np.int64]
    #: [N, N], symmetric: matches before that.
    candidates: NDArray[np.int64]


def read_descriptors(database: Path, names: Sequence[str]) -> list[NDArray[np.uint8]]:
    """Give each photo's descriptors [n, 128]; none for a photo that has none."""
    with _opened(database) as connection:
        rows = connection.execute(
            "SELECT name, rows, cols, data FROM images JOIN descriptors USING (image_id) ORDER BY image_id"
        )
        found = {
            name: np.frombuffer(data or b"", np.uint8).reshape(count, width or 128) for name, count, width, data in rows
        }
    return [found.get(name, np.zeros((0, 128), np.uint8)) for name in names]


def read_matched(database: Path, names: Sequence[str]) -> Matched:
    """Count features and matches."""
    place = {name: number for number, name in enumerate(names)}
    with _opened(database) as connection:
        ids = {
            image_id: place[name]
            for image_id, name in connection.execute("SELECT image_id, name FROM images")
            if name in place
        }
        features = np.zeros(len(names), np.int64)
        for image_id, count in connection.execute("SELECT image_id, rows FROM keypoints"):
            if image_id in ids:
                features[ids[image_id]] = count
        inliers = _counted(connection, "SELECT pair_id, rows FROM two_view_geometries", ids, len(names))
        candidates = _counted(connection, "SELECT pair_id, rows FROM matches", ids, len(names))
    return Matched(features, inliers, candidates)


def _counted(connection: sqlite3.Connection, query: str, ids: dict[int, int], photos: int) -> NDArray[np.int64]:
    counted = np.zeros((photos, photos), np.int64)
    for pair_id, count in connection.execute(query):
        other = pair_id % _MOST_IMAGES
        one = (pair_id - other) // _MOST_IMAGES
        if one in ids and other in ids:
            counted[ids[one], ids[other]] = counted[ids[other], ids[one]] = count
    return counted


@contextmanager
def _opened(database: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as connection:
        yield connection
