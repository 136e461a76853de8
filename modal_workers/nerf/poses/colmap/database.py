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
#: What has moved less than that share of the photos' width, or less than that many pixels, stands still.
_STILL: Final = 0.0015
_STILL_PX: Final = 1.5
#: How far what stands still reaches over the picture (standard deviation, of its width): a caption does not.
_SPREAD: Final = 0.12
#: Of all matches of the two photos; in a slow walk around an object a few hardly move either.
_STILL_SHARE: Final = 0.2


@dataclass(frozen=True)
class MatchCounts:
    """What was found, photo by photo in the order of their names."""

    features: NDArray[np.int64]
    #: [N, N], symmetric: matches that one geometry explains.
    inliers: NDArray[np.int64]
    #: [N, N], symmetric: matches before that.
    candidates: NDArray[np.int64]
    #: [N, N], symmetric: whether the two were compared at all.
    tried: NDArray[np.bool_]
    #: [N, N], symmetric: of the candidates, those at one place in both photos, where they are all over the picture.
    still: NDArray[np.int64]


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


def read_match_counts(database: Path, names: Sequence[str]) -> MatchCounts:
    """Count features and matches."""
    place = {name: number for number, name in enumerate(names)}
    with _opened(database) as connection:
        ids = {
            image_id: place[name]
            for image_id, name in connection.execute("SELECT image_id, name FROM images")
            if name in place
        }
        places: dict[int, NDArray[np.float32]] = {}
        for image_id, count, width, data in connection.execute("SELECT image_id, rows, cols, data FROM keypoints"):
            if image_id in ids:
                places[ids[image_id]] = np.frombuffer(data or b"", np.float32).reshape(count, width or 6)[:, :2]
        features = np.array([len(places.get(number, ())) for number in range(len(names))], np.int64)
        inliers, candidates, still = (np.zeros((len(names), len(names)), np.int64) for _ in range(3))
        tried = np.zeros((len(names), len(names)), np.bool_)
        for one, other, count, _ in _paired(connection, "SELECT pair_id, rows, NULL FROM two_view_geometries", ids):
            inliers[one, other] = inliers[other, one] = count
        for one, other, count, data in _paired(connection, "SELECT pair_id, rows, data FROM matches", ids):
            candidates[one, other] = candidates[other, one] = count
            tried[one, other] = tried[other, one] = True
            rows = np.frombuffer(data or b"", np.uint32).reshape(-1, 2)
            still[one, other] = still[other, one] = _still(places[one][rows[:, 0]], places[other][rows[:, 1]])
    return MatchCounts(features, inliers, candidates, tried, still)


def _still(here: NDArray[np.float32], there: NDArray[np.float32]) -> int:
    """Count matches [n, 2] px that stand still all over the picture; 0 where they are few, or in one corner."""
    if len(here) < 2:
        return 0
    width = float(here[:, 0].max())
    same = here[np.linalg.norm(here - there, axis=1) < max(_STILL_PX, _STILL * width)]
    if len(same) < max(2.0, _STILL_SHARE * len(here)):
        return 0
    return len(same) if float(same[:, 0].std()) > _SPREAD * width else 0


def _paired(
    connection: sqlite3.Connection, query: str, ids: dict[int, int]
) -> Iterator[tuple[int, int, int, bytes | None]]:
    for pair_id, count, data in connection.execute(query):
        other = pair_id % _MOST_IMAGES
        one = (pair_id - other) // _MOST_IMAGES
        if one in ids and other in ids:
            yield ids[one], ids[other], count, data


@contextmanager
def _opened(database: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as connection:
        yield connection
