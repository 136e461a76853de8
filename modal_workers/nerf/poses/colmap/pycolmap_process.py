"""Subprocess that runs pycolmap, one step each: it reads its request, reports its progress and exits.

    python -P pycolmap_process.py REQUEST PIPE

REQUEST is the path of a JSON file; PIPE is the number of a file descriptor that receives one JSON object per line. The
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

# Pairs are matched on our own threads; BLAS threads below them would compete for the cores. OpenBLAS reads this once.
os.putenv("OPENBLAS_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[4]))

# isort: split
import numpy as np
import pycolmap

from modal_workers.nerf.poses.descriptor_matching import match_descriptors

Report = Callable[..., None]
NamePair = tuple[str, str]

#: Photos per progress message.
_BATCH_PHOTOS: Final = 8
#: Minimum matches for a geometry; and the limit of RANSAC trials. With the default of 10,000 trials most of the time
#: goes into pairs without overlap; 2,000 find 0.3 to 0.8 % fewer matches, and lose only pairs that were at the minimum
#: (bench/README.md).
_MIN_MATCHES: Final = 15
_MAX_TRIALS: Final = 2000


def import_photos(request: dict[str, Any], report: Report) -> None:
    """Create the database with cameras and photos, so that their ids do not depend on thread timing."""
    database = Path(request["database"])
    pycolmap.Database.open(database).close()
    for group in request["cameras"]:
        options = pycolmap.ImageReaderOptions()
        options.camera_model = "SIMPLE_RADIAL"
        if group["focal_px"]:
            width, height = group["width_px"], group["height_px"]
            options.camera_params = f"{group['focal_px']},{width / 2},{height / 2},0"
        mode = pycolmap.CameraMode.SINGLE if group["shared"] else pycolmap.CameraMode.PER_IMAGE
        pycolmap.import_images(database, request["images"], mode, image_names=group["names"], options=options)
    report(step="import", done=1, total=1)


def find_features(request: dict[str, Any], report: Report) -> None:
    """Detect the features of every photo, a few photos at a time."""
    import_photos(request, report)
    options = pycolmap.FeatureExtractionOptions()
    options.num_threads = request["threads"]
    options.max_image_size = request["long_side_px"]
    options.sift.max_num_features = request["features"]
    options.sift.peak_threshold = request["peak_threshold"]
    reader = pycolmap.ImageReaderOptions()
    if request["masks"]:
        reader.mask_path = request["masks"]
    names = [name for group in request["cameras"] for name in group["names"]]
    for first in range(0, len(names), _BATCH_PHOTOS):
        batch = names[first : first + _BATCH_PHOTOS]
        pycolmap.extract_features(
            request["database"],
            request["images"],
            image_names=batch,
            reader_options=reader,
            extraction_options=options,
            device=pycolmap.Device.cpu,
        )
        report(step="features", done=first + len(batch), total=len(names))


def match_pairs(request: dict[str, Any], report: Report) -> None:
    """Match blocks of pairs and verify them geometrically; pairs matched before stay."""
    verification = pycolmap.TwoViewGeometryOptions()
    verification.min_num_inliers = _MIN_MATCHES
    verification.ransac.random_seed = request["seed"]
    verification.ransac.max_num_trials = _MAX_TRIALS
    # Static matches are dirt on the lens, a caption, or the room behind a turntable.
    verification.filter_stationary_matches = True
    verification.stationary_matches_max_error = request["stationary_px"]
    pairs_file, blocks = Path(request["pairs"]), request["blocks"]
    with ThreadPoolExecutor(request["threads"]) as threads:
        for number, block in enumerate(blocks, 1):
            _match(request["database"], block, threads)
            pairs_file.write_text("".join(f"{first} {second}\n" for first, second in block))
            pycolmap.verify_matches(request["database"], pairs_file, verification)
            report(step="match", done=number, total=len(blocks))


def _match(path: str, block: Iterable[NamePair], threads: ThreadPoolExecutor) -> None:
    """Write the matches of pairs that have none yet; too few for a geometry are stored as none."""
    with pycolmap.Database.open(path) as database:
        ids = {image.name: image.image_id for image in database.read_all_images()}
        pairs = [(ids[first], ids[second]) for first, second in block]
        pairs = [pair for pair in pairs if not database.exists_matches(*pair)]
        features = {number: _descriptors(database, number) for number in set(chain.from_iterable(pairs))}
        found = threads.map(lambda pair: match_descriptors(features[pair[0]], features[pair[1]]), pairs)
        for pair, matched in zip(pairs, found, strict=True):
            database.write_matches(*pair, matched if len(matched) >= _MIN_MATCHES else matched[:0])


def _descriptors(database: pycolmap.Database, number: int) -> np.ndarray:
    if not database.exists_descriptors(number):
        return np.zeros((0, 128), np.float32)
    return np.asarray(database.read_descriptors(number).data).astype(np.float32)


def map_photos(request: dict[str, Any], report: Report) -> None:
    """Run incremental mapping; every model goes to a folder of its own."""
    options = pycolmap.IncrementalPipelineOptions()
    # Several threads are no faster here and not deterministic: results depend on the order in which they finish.
    options.num_threads = 1
    options.random_seed = request["seed"]
    options.mapper.random_seed = request["seed"]
    options.triangulation.random_seed = request["seed"]
    options.mapper.init_min_tri_angle = request["init_min_tri_angle_deg"]
    options.min_model_size = 3
    options.max_runtime_seconds = max(1, int(request["limit_s"]))
    total, registered = len(request["names"]), 0

    def on_initial_pair() -> None:
        nonlocal registered
        registered = 2
        report(step="map", done=2, total=total)

    def on_registered() -> None:
        nonlocal registered
        registered += 1
        report(step="map", done=registered, total=total)

    pycolmap.incremental_mapping(
        request["database"],
        request["images"],
        request["models"],
        options=options,
        initial_image_pair_callback=on_initial_pair,
        next_image_callback=on_registered,
    )


def finish(request: dict[str, Any], report: Report) -> None:
    """Transform the chosen model, drop rejected images, and undistort its photos."""
    model = pycolmap.Reconstruction(request["model"])
    for image in list(model.images.values()):
        if image.name not in request["names"] and image.has_pose:
            model.deregister_frame(image.frame_id)
    model.transform(pycolmap.Sim3d(request["new_from_old"]))
    report(step="finish", done=1, total=3)
    plain = Path(request["plain"])
    plain.mkdir(parents=True)
    model.write(plain)
    pycolmap.undistort_images(
        request["undistorted"],
        plain,
        request["images"],
        image_names=request["names"],
        jpeg_quality=request["jpeg_quality"],
        num_threads=request["threads"],
    )
    report(step="finish", done=2, total=3)
    for image in model.images.values():
        image.name = request["final_names"][image.name]
    named = Path(request["named"])
    named.mkdir(parents=True)
    model.write(named)
    report(step="finish", done=3, total=3)


STEPS: Final = {"features": find_features, "match": match_pairs, "map": map_photos, "finish": finish}


def _exit_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(3)


def _restore_signal_handlers() -> None:
    """Restore default signal handlers: pycolmap's own write a trace first and may wait for a lock for ever."""
    for number in (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    faulthandler.enable()


def main() -> None:
    """Run the step of the request."""
    request = json.loads(Path(sys.argv[1]).read_text())
    pipe = os.fdopen(int(sys.argv[2]), "w", buffering=1)
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    _restore_signal_handlers()

    def report(**message: object) -> None:
        pipe.write(json.dumps(message) + "\n")

    pycolmap.logging.minloglevel = int(pycolmap.logging.WARNING.value)
    report(step="begin", done=0, total=1)
    try:
        STEPS[request["step"]](request, report)
    except Exception as error:  # noqa: BLE001 - reported to the parent, which classifies it
        report(error=type(error).__name__, message=str(error)[:500])
        os._exit(1)
    report(step="end", done=1, total=1)
    pipe.flush()
    # Skip the interpreter's shutdown: destructors of native libraries may crash.
    os._exit(0)


if __name__ == "__main__":
    main()
