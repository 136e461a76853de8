"""A very small YOLO26-pose trained on the simulator's frames by ultralytics' own trainer, and what it finds afterwards.

    python bench/badminton_yolo.py [--images 300] [--epochs 30] [--size 416] [--out FOLDER]

Writes ``yolo26n-pose.pt`` into FOLDER, which BADMINTON_WEIGHTS_FOLDER can name. The architecture is ultralytics'
YOLO26n-pose at half of its width. Prints, on matches of other seeds: share of the players found (IoU of 0.5), persons
found that are none, error of the keypoints in px and as a share of the person's height, milliseconds an image.
The weights know simulated players only. They are not part of Saccade: NOTICE says what ultralytics' licence asks.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.needs import needs

needs("cv2", "torch", "ultralytics", "lap")

import cv2
import numpy as np

from modal_workers.badminton.players.ultralytics_backend import UltralyticsPoseBackend
from modal_workers.badminton.settings import BadmintonSettings, keep_ultralytics_offline
from simulators.badminton.match_options import CAMERA_NAMES, MatchOptions
from simulators.badminton.match_renderer import MatchRenderer
from simulators.badminton.match_truth import FrameTruth
from simulators.badminton.truth_from_world import make_match

#: Left and right of each keypoint, for pictures that the trainer mirrors.
FLIPPED: Final = [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]
FRAMES_A_MATCH: Final = 6
TEST_SEED: Final = 5000


def main() -> None:
    """Train, then measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--size", type=int, default=416)
    parser.add_argument("--out", type=Path)
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        out = wanted.out or Path(folder)
        out.mkdir(parents=True, exist_ok=True)
        started_s = time.monotonic()
        train(out / "yolo26n-pose.pt", Path(folder), images=wanted.images, epochs=wanted.epochs, size_px=wanted.size)
        print(
            f"trained in {(time.monotonic() - started_s) / 60:.1f} min: {wanted.images} images, {wanted.epochs} epochs"
        )
        for tracker in ("off", "bytetrack"):
            measure(out, wanted.size, tracker)


def sample_frames(count: int, first_seed: int) -> Iterator[tuple[np.ndarray, FrameTruth]]:
    """Yield frames of matches that differ in camera, players and hall."""
    for number in range(0, count, FRAMES_A_MATCH):
        seed = first_seed + number
        dice = random.Random(seed)
        options = MatchOptions(
            seed=seed,
            duration_s=20.0,
            camera=CAMERA_NAMES[number // FRAMES_A_MATCH % len(CAMERA_NAMES)],
            doubles=dice.random() < 0.5,
            bystanders=dice.random() < 0.7,
            width_px=960,
            height_px=540,
        )
        renderer = MatchRenderer(make_match(options))
        frames = len(renderer.match.truth.time_s)
        for index in sorted(dice.sample(range(frames), min(FRAMES_A_MATCH, count - number))):
            yield renderer.draw(index), renderer.match.truth.frame(index)


def train(weights: Path, folder: Path, *, images: int, epochs: int, size_px: int) -> None:
    """Train a model on the CPU and write its weights."""
    keep_ultralytics_offline()
    load_torchvision()
    from ultralytics import YOLO
    from ultralytics.nn.tasks import yaml_model_load

    for part, count, seed in (("train", images, 1), ("val", max(12, images // 20), 3000)):
        write_data_set(folder / part, sample_frames(count, seed))
    data = folder / "data.yaml"
    data.write_text(
        f"path: {folder}\ntrain: train/images\nval: val/images\nkpt_shape: [17, 3]\nflip_idx: {FLIPPED}\n"
        "names:\n  0: person\n"
    )
    architecture: dict[str, Any] = yaml_model_load("yolo26n-pose.yaml")
    architecture |= {"nc": 1, "scales": {"n": [0.5, 0.125, 512]}}
    import yaml

    design = folder / "yolo26n-pose.yaml"
    design.write_text(yaml.safe_dump({name: value for name, value in architecture.items() if name != "yaml_file"}))
    model = YOLO(str(design), task="pose")
    model.train(
        data=str(data),
        imgsz=size_px,
        epochs=epochs,
        batch=8,
        optimizer="AdamW",
        lr0=0.002,
        warmup_epochs=1,
        rect=True,
        device="cpu",
        workers=0,
        amp=False,
        nms=False,
        val=False,
        plots=False,
        project=str(folder / "runs"),
        name="pose",
        mosaic=0.0,
        verbose=False,
        seed=1,
    )
    best = folder / "runs" / "pose" / "weights" / "last.pt"
    shutil.copyfile(best, weights)


def load_torchvision() -> None:
    """Import torchvision, which ultralytics' validator does without using it; an empty module where it does not load.

    The package index has only its build for CUDA, which fails beside a torch for the CPU (pytorch/pytorch#122494).
    YOLO26's head needs none of its operators.
    """
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        for name in [name for name in sys.modules if name.startswith("torchvision")]:
            del sys.modules[name]
        sys.modules["torchvision"] = ModuleType("torchvision")


def write_data_set(folder: Path, frames: Iterator[tuple[np.ndarray, FrameTruth]]) -> None:
    """Write pictures and labels in YOLO's pose format; persons beside the court have no keypoints."""
    (folder / "images").mkdir(parents=True)
    (folder / "labels").mkdir()
    for number, (picture, truth) in enumerate(frames):
        cv2.imwrite(str(folder / "images" / f"{number:05d}.jpg"), picture, [cv2.IMWRITE_JPEG_QUALITY, 92])
        height, width = picture.shape[:2]
        lines = []
        for player, box in enumerate(truth.boxes_px):
            points = np.concatenate(
                [truth.keypoints_px[player] / (width, height), 2.0 * truth.keypoints_visible[player][:, None]], axis=1
            )
            points[points[:, 2] == 0] = 0.0
            lines.append(_label(box, points, width, height))
        lines += [_label(box, np.zeros((17, 3)), width, height) for box in truth.bystander_boxes_px]
        (folder / "labels" / f"{number:05d}.txt").write_text("\n".join(line for line in lines if line))


def _label(box_px: np.ndarray, points: np.ndarray, width: int, height: int) -> str:
    if not np.isfinite(box_px).all():
        return ""
    left, right = np.clip(box_px[[0, 2]], 0, width) / width
    top, bottom = np.clip(box_px[[1, 3]], 0, height) / height
    if right - left < 2 / width or bottom - top < 4 / height:
        return ""
    values = [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top, *np.clip(points, 0, 2).ravel()]
    return "0 " + " ".join(f"{value:.5f}" for value in values)


def measure(weights_folder: Path, size_px: int, tracker: str) -> None:
    """Print what the backend finds on matches of other seeds."""
    settings = BadmintonSettings(weights_folder=weights_folder, yolo_image_px=size_px, yolo_tracker=tracker)
    backend = UltralyticsPoseBackend("n", settings)
    found = wrong = total = 0
    errors_px, error_shares, spent_s, pictures = [], [], 0.0, 0
    for picture, truth in sample_frames(120, TEST_SEED):
        if tracker != "off":
            backend.restart()
        started_s = time.perf_counter()
        (persons,) = backend.detect([picture])
        spent_s, pictures = spent_s + time.perf_counter() - started_s, pictures + 1
        overlaps = [_overlaps(box, persons.boxes_px) for box in truth.boxes_px]
        for player, overlap in enumerate(overlaps):
            if not np.isfinite(truth.boxes_px[player]).all():
                continue
            total += 1
            if overlap.size and overlap.max() >= 0.5:
                found += 1
                seen = truth.keypoints_visible[player].astype(bool)
                points = persons.keypoints_px[int(overlap.argmax()), :, :2]
                error = np.linalg.norm(points - truth.keypoints_px[player], axis=1)[seen]
                errors_px.append(error)
                error_shares.append(error / (truth.boxes_px[player][3] - truth.boxes_px[player][1]))
        everybody = np.concatenate([truth.boxes_px, truth.bystander_boxes_px.reshape(-1, 4)])
        for box, confidence in zip(persons.boxes_px, persons.confidence, strict=True):
            wrong += bool(confidence > 0.25 and _overlaps(box, everybody).max(initial=0.0) < 0.3)
    if not found:
        print(f"tracker {tracker:9s} players found 0 of {total}: train on more images, for more epochs")
        return
    error, share = np.concatenate(errors_px), np.concatenate(error_shares)
    print(
        f"tracker {tracker:9s} players found {found / total:.3f} of {total}, "
        f"nobody there {wrong} in {pictures} images, "
        f"keypoints median {np.median(error):.1f} px ({100 * np.median(share):.1f} % of the height), "
        f"p95 {np.percentile(error, 95):.1f} px, {1000 * spent_s / pictures:.0f} ms an image"
    )


def _overlaps(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    if not len(boxes):
        return np.zeros(0)
    low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) + (box[2:] - box[:2]).prod()
    return np.nan_to_num(shared / (areas - shared))


if __name__ == "__main__":
    main()
