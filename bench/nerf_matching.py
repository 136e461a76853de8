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
    from modal_workers.nerf.poses.mapper import Mapper
    from modal_workers.nerf.simulator.photograph import photograph

    photograph(folder / "toy", photos=photos, size_px=(width, width * 3 // 4))
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
    mapper = Mapper(folder, lambda: None, cores=2)
    mapper.run("features", order, lambda *_: None, limit_s=600, afresh=lambda: None)
    return folder / "features.db"


def measured(path: Path) -> Iterator[list[object]]:
    """Give rows; in a process of its own, because pycolmap is in it."""
    import zlib  # noqa: F401 - before pycolmap

    import numpy as np
    import pycolmap

    from modal_workers.nerf.poses.matching import matches

    pycolmap.logging.minloglevel = int(pycolmap.logging.WARNING.value)
    with pycolmap.Database.open(path) as database:
        images = sorted(database.read_all_images(), key=lambda image: image.image_id)
        rows = [database.read_descriptors(image.image_id).data.astype(np.float32) for image in images]
    pairs = list(combinations(range(len(images)), 2))
    listed = path.with_suffix(".txt")
    listed.write_text("".join(f"{images[one].name} {images[other].name}\n" for one, other in pairs))
    mean = round(sum(map(len, rows)) / len(rows))

    def counted(database: Path) -> tuple[int, int]:
        with pycolmap.Database.open(database) as opened:
            ids = [(images[one].image_id, images[other].image_id) for one, other in pairs]
            tentative = sum(len(opened.read_matches(*pair)) for pair in ids)
            sure = [opened.read_two_view_geometry(*pair) for pair in ids if opened.exists_two_view_geometry(*pair)]
        return tentative, sum(len(one.inlier_matches) for one in sure)

    def by_pycolmap(whole: bool) -> tuple[float, Path]:
        copy = path.with_name(f"{whole}.db")
        shutil.copyfile(path, copy)
        matching, pairing = pycolmap.FeatureMatchingOptions(), pycolmap.ImportedPairingOptions()
        matching.num_threads, matching.skip_geometric_verification = 1, True
        matching.sift.cpu_brute_force_matcher = whole
        pairing.match_list_path = listed
        began_s = process_time()
        pycolmap.match_image_pairs(copy, matching_options=matching, pairing_options=pairing, device=pycolmap.Device.cpu)
        return process_time() - began_s, copy

    def by_us() -> tuple[float, Path]:
        copy = path.with_name("ours.db")
        shutil.copyfile(path, copy)
        began_s = process_time()
        with pycolmap.Database.open(copy) as database:
            for one, other in pairs:
                found = matches(rows[one], rows[other])
                found = found if len(found) >= 15 else found[:0]
                database.write_matches(images[one].image_id, images[other].image_id, found)
        return process_time() - began_s, copy

    def verified(database: Path, trials: int) -> tuple[float, int]:
        copy = path.with_name("verified.db")
        shutil.copyfile(database, copy)
        options = pycolmap.TwoViewGeometryOptions()
        options.ransac.random_seed, options.ransac.max_num_trials = 0, trials
        began_s = process_time()
        pycolmap.verify_matches(copy, listed, options)
        return process_time() - began_s, counted(copy)[1]

    for name, (spent_s, database) in zip(WAYS, (by_pycolmap(False), by_pycolmap(True), by_us()), strict=True):
        for trials in TRIALS if name == "ours" else TRIALS[:1]:
            verifying_s, sure = verified(database, trials)
            yield [
                mean,
                name,
                f"{1000 * spent_s / len(pairs):.1f}",
                counted(database)[0],
                trials,
                f"{1000 * verifying_s / len(pairs):.1f}",
                sure,
            ]


if __name__ == "__main__":
    main()
