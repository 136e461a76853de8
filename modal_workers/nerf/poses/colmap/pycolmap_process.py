"""Subprocess that runs pycolmap, one step each: it reads its order, reports its progress and exits.

    python -P pycolmap_process.py ORDER PIPE

ORDER is the path of a JSON file; PIPE is the number of a file descriptor that receives one JSON object per line. The
process exits at once when its standard input closes.

It is a process of its own because the wheel of pycolmap 4.2.1 exports all of zlib (a process that loads pycolmap first
corrupts its heap in the next PNG or ZIP), and because reading the SQLite database while pycolmap writes it crashes the
process. Only pycolmap, numpy and ``descriptor_matching.py`` are imported here.
"""

from __future__ import annotations

import zlib  # noqa: F401 - before pycolmap, see above

# isort: split
import faulthandler
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any, Final

# Pairs are matched on threads of ours; a library of numpy's that started its own under each would only be in the way.
# It looks once, when it is loaded.
os.putenv("OPENBLAS_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[4]))

# isort: split
import numpy as np
import pycolmap

from modal_workers.nerf.poses.descriptor_matching import match_descriptors

Tell = Callable[..., None]
Pair = tuple[str, str]

#: Photos whose features are found between two messages.
_BATCH_PHOTOS: Final = 8
#: Matches of a pair for which a geometry is looked for; and how often at most, where few of the matches fit any. By
#: pycolmap's default of 10,000, most of the time goes into pairs that show nothing in common; 2,000 find 0.3 to 0.8 %
#: fewer matches, and of the pairs only those that were just enough (bench/README.md).
_FEWEST: Final = 15
_TRIALS: Final = 2000


def import_photos(order: dict[str, Any], tell: Tell) -> None:
    """Make the database with cameras and photos: their ids do not depend on which thread was first."""
    database = Path(order["database"])
    pycolmap.Database.open(database).close()
    for group in order["cameras"]:
        options = pycolmap.ImageReaderOptions()
        options.camera_model = "SIMPLE_RADIAL"
        if group["focal_px"]:
            width, height = group["width_px"], group["height_px"]
            options.camera_params = f"{group['focal_px']},{width / 2},{height / 2},0"
        mode = pycolmap.CameraMode.SINGLE if group["shared"] else pycolmap.CameraMode.PER_IMAGE
        pycolmap.import_images(database, order["images"], mode, image_names=group["names"], options=options)
    tell(step="import", done=1, total=1)


def find_features(order: dict[str, Any], tell: Tell) -> None:
    """Find the features of every photo, a few photos at a time."""
    import_photos(order, tell)
    options = pycolmap.FeatureExtractionOptions()
    options.num_threads = order["threads"]
    options.max_image_size = order["long_side_px"]
    options.sift.max_num_features = order["features"]
    options.sift.peak_threshold = order["peak_threshold"]
    reader = pycolmap.ImageReaderOptions()
    if order["masks"]:
        reader.mask_path = order["masks"]
    names = [name for group in order["cameras"] for name in group["names"]]
    for first in range(0, len(names), _BATCH_PHOTOS):
        batch = names[first : first + _BATCH_PHOTOS]
        pycolmap.extract_features(
            order["database"],
            order["images"],
            image_names=batch,
            reader_options=reader,
            extraction_options=options,
            device=pycolmap.Device.cpu,
        )
        tell(step="features", done=first + len(batch), total=len(names))


def match_pairs(order: dict[str, Any], tell: Tell) -> None:
    """Match the blocks of pairs, and keep of each pair what one geometry explains; those matched before stay."""
    verification = pycolmap.TwoViewGeometryOptions()
    verification.min_num_inliers = _FEWEST
    verification.ransac.random_seed = order["seed"]
    verification.ransac.max_num_trials = _TRIALS
    # What stays where it is in the picture is dirt on the lens, a caption, or the room behind a turntable.
    verification.filter_stationary_matches = True
    verification.stationary_matches_max_error = order["stationary_px"]
    listed, blocks = Path(order["pairs"]), order["blocks"]
    with ThreadPoolExecutor(order["threads"]) as threads:
        for number, block in enumerate(blocks, 1):
            _match(order["database"], block, threads)
            listed.write_text("".join(f"{one} {other}\n" for one, other in block))
            pycolmap.verify_matches(order["database"], listed, verification)
            tell(step="match", done=number, total=len(blocks))


def _match(path: str, block: Iterable[Pair], threads: ThreadPoolExecutor) -> None:
    """Write the matches of pairs that have none yet; too few for a geometry are none."""
    with pycolmap.Database.open(path) as database:
        ids = {image.name: image.image_id for image in database.read_all_images()}
        pairs = [(ids[one], ids[other]) for one, other in block if not database.exists_matches(ids[one], ids[other])]
        features = {number: _descriptors(database, number) for number in set(chain.from_iterable(pairs))}
        found = threads.map(lambda pair: match_descriptors(features[pair[0]], features[pair[1]]), pairs)
        for pair, matched in zip(pairs, found, strict=True):
            database.write_matches(*pair, matched if len(matched) >= _FEWEST else matched[:0])


def _descriptors(database: pycolmap.Database, number: int) -> np.ndarray:
    if not database.exists_descriptors(number):
        return np.zeros((0, 128), np.float32)
    return np.asarray(database.read_descriptors(number).data).astype(np.float32)


def map_photos(order: dict[str, Any], tell: Tell) -> None:
    """Find cameras and points, photo by photo; every model goes to a folder of its own."""
    options = pycolmap.IncrementalPipelineOptions()
    # Several are no faster here, and give other cameras once in so many runs: the order in which they end shows.
    options.num_threads = 1
    options.random_seed = order["seed"]
    options.mapper.random_seed = order["seed"]
    options.triangulation.random_seed = order["seed"]
    options.mapper.init_min_tri_angle = order["init_min_tri_angle_deg"]
    options.min_model_size = 3
    options.max_runtime_seconds = max(1, int(order["limit_s"]))
    total, registered = len(order["names"]), 0

    def began() -> None:
        nonlocal registered
        registered = 2
        tell(step="map", done=2, total=total)

    def added() -> None:
        nonlocal registered
        registered += 1
        tell(step="map", done=registered, total=total)

    pycolmap.incremental_mapping(
        order["database"],
        order["images"],
        order["models"],
        options=options,
        initial_image_pair_callback=began,
        next_image_callback=added,
    )


def finish(order: dict[str, Any], tell: Tell) -> None:
    """Bring the chosen model into its frame, without the photos that were left out, and undistort its photos."""
    model = pycolmap.Reconstruction(order["model"])
    for image in list(model.images.values()):
        if image.name not in order["names"] and image.has_pose:
            model.deregister_frame(image.frame_id)
    model.transform(pycolmap.Sim3d(order["new_from_old"]))
    tell(step="finish", done=1, total=3)
    plain = Path(order["plain"])
    plain.mkdir(parents=True)
    model.write(plain)
    pycolmap.undistort_images(
        order["undistorted"],
        plain,
        order["images"],
        image_names=order["names"],
        jpeg_quality=order["jpeg_quality"],
        num_threads=order["threads"],
    )
    tell(step="finish", done=2, total=3)
    for image in model.images.values():
        image.name = order["final_names"][image.name]
    named = Path(order["named"])
    named.mkdir(parents=True)
    model.write(named)
    tell(step="finish", done=3, total=3)


STEPS: Final = {"features": find_features, "match": match_pairs, "map": map_photos, "finish": finish}


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(3)


def _die_at_once() -> None:
    """Have a crash end the process: pycolmap's own handlers write a trace first, and may wait for ever for a lock."""
    for number in (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    faulthandler.enable()


def main() -> None:
    """Do the step of the order."""
    order = json.loads(Path(sys.argv[1]).read_text())
    pipe = os.fdopen(int(sys.argv[2]), "w", buffering=1)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _die_at_once()

    def tell(**message: object) -> None:
        pipe.write(json.dumps(message) + "\n")

    pycolmap.logging.minloglevel = int(pycolmap.logging.WARNING.value)
    tell(step="begin", done=0, total=1)
    try:
        STEPS[order["step"]](order, tell)
    except Exception as error:  # noqa: BLE001 - told to the parent, which knows what it means
        tell(error=type(error).__name__, message=str(error)[:500])
        os._exit(1)
    tell(step="end", done=1, total=1)
    pipe.flush()
    # Not through the interpreter's end: nothing native shall be taken apart any more.
    os._exit(0)


if __name__ == "__main__":
    main()
