"""Matches of photos and what one geometry explains of them: ours beside pycolmap's, on the same features in one run.

    python bench/nerf_matching.py [--photos 14] [--width 640 1600]

Prints: width px, features a photo, way, its CPU ms a pair, matches, RANSAC's most trials, their CPU ms a pair, inliers.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from time import process_time
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.needs import needs

needs("cv2", "pycolmap")

WAYS: Final = ("pycolmap, index", "pycolmap, all with all", "ours")
TRIALS: Final = (10_000, 4_000, 2_000, 1_000)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=int, default=14)
    parser.add_argument("--width", type=int, nargs="+", default=[640, 1600])
    parser.add_argument("--database", type=Path, help=argparse.SUPPRESS)
    wanted = parser.parse_args()
    if wanted.database:
        json.dump(list(measured(wanted.database)), sys.stdout)
        return
    for width in wanted.width:
        with tempfile.TemporaryDirectory() as name:
            database = features(Path(name), wanted.photos, width)
            # One thread, as each of ours in the stage has: what waits for another is no work.
            command = ["env", "OPENBLAS_NUM_THREADS=1", sys.executable, __file__, "--database", str(database)]
            found = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
        for row in json.loads(found):
            print(f"| {width} | " + " | ".join(str(cell) for cell in row) + " |", flush=True)


def features(folder: Path, photos: int, width: int) -> Path:
    """Photograph the toy and find features, by the stage's own process."""
    from modal_workers.nerf.poses.colmap.pycolmap_runner import PycolmapRunner
    from simulators.toy.photos import take_photos

    take_photos(folder / "toy", photos=photos, size_px=(width, width * 3 // 4))
    names = sorted(path.name for path in (folder / "toy").glob("*.jpg"))
    order: dict[str, Any] = {
        "database": str(folder / "features.db"),
        "images": str(folder / "toy"),
        "masks": "",
        "cameras": [{"names": names, "shared": True, "focal_px": None, "width_px": width, "height_px": width * 3 // 4}],
        "long_side_px": 1600,
        "features": 4096,
        "peak_threshold": 0.0067,
    }
    mapper = PycolmapRunner(folder, lambda: None, cores=2)
    mapper.run("features", order, lambda *_: None, limit_s=600, clean_up=lambda: None)
    return folder / "features.db"


class Pairs:
    """All pairs of a database's photos, matched and verified in copies of it; pycolmap lives in this process."""

    def __init__(self, path: Path) -> None:
        import zlib  # noqa: F401 - before pycolmap

        import numpy as np
        import pycolmap

        pycolmap.logging.minloglevel = int(pycolmap.logging.WARNING.value)
        self._path, self._colmap = path, pycolmap
        with pycolmap.Database.open(path) as database:
            images = sorted(database.read_all_images(), key=lambda image: image.image_id)
            self.rows = {
                image.image_id: database.read_descriptors(image.image_id).data.astype(np.float32) for image in images
            }
        self.ids = list(combinations(self.rows, 2))
        self._listed = path.with_suffix(".txt")
        self._listed.write_text("".join(f"{first.name} {second.name}\n" for first, second in combinations(images, 2)))

    def by_pycolmap(self, *, whole: bool) -> tuple[float, Path]:
        """Match by its index, or all with all; gives processor seconds and where the matches are."""
        copy = self._copy(self._path, f"{whole}.db")
        matching, pairing = self._colmap.FeatureMatchingOptions(), self._colmap.ImportedPairingOptions()
        matching.num_threads, matching.skip_geometric_verification = 1, True
        matching.sift.cpu_brute_force_matcher = whole
        pairing.match_list_path = self._listed
        began_s = process_time()
        self._colmap.match_image_pairs(
            copy, matching_options=matching, pairing_options=pairing, device=self._colmap.Device.cpu
        )
        return process_time() - began_s, copy

    def by_us(self) -> tuple[float, Path]:
        """Match as the stage does."""
        from modal_workers.nerf.poses.descriptor_matching import match_descriptors

        copy = self._copy(self._path, "ours.db")
        began_s = process_time()
        with self._colmap.Database.open(copy) as database:
            for first, second in self.ids:
                found = match_descriptors(self.rows[first], self.rows[second])
                database.write_matches(first, second, found if len(found) >= 15 else found[:0])
        return process_time() - began_s, copy

    def verified(self, matched: Path, trials: int) -> tuple[float, int, int]:
        """Look for one geometry of each pair; gives processor seconds, matches before, and those that it explains."""
        copy = self._copy(matched, "verified.db")
        options = self._colmap.TwoViewGeometryOptions()
        options.ransac.random_seed, options.ransac.max_num_trials = 0, trials
        began_s = process_time()
        self._colmap.verify_matches(copy, self._listed, options)
        spent_s = process_time() - began_s
        with self._colmap.Database.open(copy) as opened:
            tentative = sum(len(opened.read_matches(*pair)) for pair in self.ids)
            sure = [opened.read_two_view_geometry(*pair) for pair in self.ids if opened.exists_two_view_geometry(*pair)]
        return spent_s, tentative, sum(len(geometry.inlier_matches) for geometry in sure)

    def _copy(self, path: Path, name: str) -> Path:
        copy = path.with_name(name)
        shutil.copyfile(path, copy)
        return copy


def measured(path: Path) -> Iterator[list[object]]:
    """Return the rows of one database."""
    pairs = Pairs(path)
    mean = round(sum(map(len, pairs.rows.values())) / len(pairs.rows))
    runs = zip(WAYS, (pairs.by_pycolmap(whole=False), pairs.by_pycolmap(whole=True), pairs.by_us()), strict=True)
    for name, (spent_s, database) in runs:
        for trials in TRIALS if name == "ours" else TRIALS[:1]:
            verifying_s, tentative, sure = pairs.verified(database, trials)
            matching_ms, verifying_ms = (1000 * each_s / len(pairs.ids) for each_s in (spent_s, verifying_s))
            yield [mean, name, f"{matching_ms:.1f}", tentative, trials, f"{verifying_ms:.1f}", sure]


if __name__ == "__main__":
    main()
