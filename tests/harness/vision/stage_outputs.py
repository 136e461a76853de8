"""Synthetic outputs of the stages before ``exhibit``: reports, cameras, a red ball as the model, true frames."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch

from modal_workers.gaussians.ply import encode_ply
from modal_workers.gaussians.splats import SH_0, Splats
from modal_workers.nerf.capture.spec import CaptureReport, Estimate, Reason, Skipped, StageEstimate, Verdict
from modal_workers.nerf.params import NerfParams
from modal_workers.nerf.photo_arcs import FULL_CIRCLE, arc_azimuth_deg, photographed_arcs
from modal_workers.nerf.poses.spec import PosesReport
from modal_workers.nerf.rendering.spec import RenderingReport
from modal_workers.nerf.scene import TrainedScene
from modal_workers.nerf.training.spec import CurvePoint, TrainingReport
from simulators.toy.ring_camera import look_at
from tests.harness.vision.orbit_frames import write_frames

#: A file name with markup that a page must escape.
HOSTILE = "<script>alert(1)</script>&.jpg"
ELEVATIONS_DEG = (15.0, 40.0)
PHOTOS = 16
RADIUS = 0.25
#: [4, 4], from scene coordinates to those of the poses: scaled by 2, rotated and translated.
SFM_FROM_SCENE = np.array([[0.0, -2.0, 0.0, 1.0], [2.0, 0.0, 0.0, -1.0], [0.0, 0.0, 2.0, 0.5], [0.0, 0.0, 0.0, 1.0]])
_SIZE = (96, 72)
_FOCAL_PX = 110.0


def capture_report(*, refused: bool = False) -> CaptureReport:
    reason = Reason(
        code="blurred",
        severity="refusal" if refused else "warning",
        message="9 of 16 photos are blurred.",
        photos=[HOSTILE],
        fix="Hold still, or give it more light.",
    )
    later = [StageEstimate(stage="training", device="A10", jobs=1, seconds=900.0, usd=0.2754)]
    return CaptureReport(
        source="photos",
        ordered=True,
        sent=17,
        photos=PHOTOS,
        masks=0,
        skipped=[Skipped(name=HOSTILE, reason="It is cut off.")],
        sharp=7,
        blur_px=1.2,
        features=300,
        matched_pairs=60,
        pieces=[PHOTOS],
        orbit=None,
        verdict=Verdict(accept="refused" if refused else "usable", score=0.4, reasons=[reason]),
        goes_on=not refused,
        later_stages=Estimate(stages=later, usd=0.2754, prices_read_on="2026-07-31"),
        spared_usd=0.2754 if refused else 0.0,
        checking_s=3.5,
    )


def write_capture(home: Path, report: CaptureReport) -> None:
    (home / "kept").mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(home / "kept" / "capture.zip", "w") as archive:
        archive.writestr("capture.json", json.dumps({"photos": [], "report": report.model_dump(mode="json")}))


def write_everything(home: Path, params: NerfParams, *, splats: int = 300, seed: int = 3) -> None:
    """Write all outputs to ``home`` in the layout of ``tests.harness.vision.stage_context.FolderContext``."""
    write_capture(home, capture_report())
    (home / "saved" / "model").mkdir(parents=True)
    kept = home / "kept"
    ball = red_ball(splats)
    TrainedScene(RADIUS, 1.0, ELEVATIONS_DEG, SFM_FROM_SCENE, ball).save(kept / "scene.npz")
    encode_ply(ball).write(home / "saved" / "model" / "splat.ply")
    _write_dataset(kept / "dataset.zip")
    (kept / "poses.json").write_text(_poses().model_dump_json())
    (kept / "training.json").write_text(_training(splats).model_dump_json())
    write_frames(home / "saved", params, ELEVATIONS_DEG, seed=seed)
    for shard in range(params.batches):
        (kept / f"rendering_{shard:03d}.json").write_text(_rendering(params, shard).model_dump_json())


def open_the_circle(home: Path, params: NerfParams, *, full: bool = False) -> None:
    """Change what ``write_everything`` wrote to a capture of half the circle, with unseen frames where ``full``."""
    kept, angles = home / "kept", np.radians(np.arange(0, 181, 12))
    cameras = np.stack([np.cos(angles), np.sin(angles), np.full(len(angles), 0.4)], 1)
    replace(TrainedScene.load(kept / "scene.npz"), cameras=cameras).save(kept / "scene.npz")
    arcs = FULL_CIRCLE if full else photographed_arcs(cameras)
    seen = 0
    for shard in range(params.batches):
        path = home / "saved" / "frames" / f"batch_{shard:02d}.json"
        batch = json.loads(path.read_text())
        for frame in batch["frames"]:
            azimuth_deg = arc_azimuth_deg(arcs, frame["index"] % params.azimuths, params.azimuths)
            nearest_deg = max(0.0, min(azimuth_deg - 180.0, 360.0 - azimuth_deg))
            share = 0.95 if nearest_deg <= 30 else 0.125
            frame |= {"azimuth_deg": azimuth_deg, "nearest_photo_deg": nearest_deg, "seen_share": share}
            seen += nearest_deg <= 30
        path.write_text(json.dumps(batch))
    for shard in range(params.batches):
        report = kept / f"rendering_{shard:03d}.json"
        report.write_text(json.dumps(json.loads(report.read_text()) | {"arcs_deg": arcs, "seen": seen}))


def red_ball(count: int) -> Splats:
    random = torch.Generator().manual_seed(1)
    means = torch.nn.functional.normalize(torch.randn(count, 3, generator=random), dim=1) * RADIUS * 0.8
    colours = (torch.tensor([0.9, 0.05, 0.05]) - 0.5) / SH_0
    return Splats(
        means,
        torch.full((count, 3), float(np.log(0.03))),
        torch.tensor([1.0, 0, 0, 0]).expand(count, 4),
        torch.full((count,), 4.0),
        colours.expand(count, 3),
    )


def _write_dataset(path: Path) -> None:
    width, height = _SIZE
    frames, pictures = [], {}
    for index in range(PHOTOS):
        angle = 2 * np.pi * index / PHOTOS
        eye = np.array([np.cos(angle), np.sin(angle), 0.4 + 0.2 * (index % 2)])
        pose = look_at(eye, (0.1, 0.0, 0.0))  # off-centre, so that the ball is elsewhere in each image
        ball = (np.zeros(3) - pose[:3, 3]) @ pose[:3, :3]
        place = ball[:2] / ball[2] * _FOCAL_PX + np.array(_SIZE) / 2
        picture = np.full((height, width, 3), 244, np.uint8)
        radius_px = round(0.8 * RADIUS / ball[2] * _FOCAL_PX)
        cv2.circle(picture, (int(place[0]), int(place[1])), radius_px, (13, 13, 230), -1)
        name = f"images/{index:04d}_photo.jpg"
        pictures[name] = cv2.imencode(".jpg", picture)[1].tobytes()
        sfm = SFM_FROM_SCENE @ pose
        sfm[:3, :3] /= 2
        opengl = sfm @ np.diag([1.0, -1.0, -1.0, 1.0])
        frames.append({"file_path": name, "transform_matrix": opengl.tolist()})
    lens = {"w": width, "h": height, "fl_x": _FOCAL_PX, "fl_y": _FOCAL_PX, "cx": width / 2, "cy": height / 2}
    points = io.BytesIO()
    np.savez(points, xyz=np.zeros((1, 3), np.float32), rgb=np.zeros((1, 3), np.uint8))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("transforms.json", json.dumps(lens | {"frames": frames}))
        archive.writestr("points.npz", points.getvalue())
        for name, data in pictures.items():
            archive.writestr(name, data)


def _poses() -> PosesReport:
    return PosesReport(
        photos_given=PHOTOS + 1,
        photos_registered=PHOTOS,
        not_registered=[HOSTILE],
        repeated=[],
        warnings=[],
        reprojection_error_px=0.4,
        points=1200,
        mean_track_length=4.0,
        components=1,
        models=1,
        matcher="exhaustive",
        attempts=[],
        focal_px=_FOCAL_PX,
        camera_distance_median=1.0,
        elevation_min_deg=15.0,
        elevation_max_deg=40.0,
        durations_s={"all": 12.5},
    )


def _training(splats: int) -> TrainingReport:
    curve = tuple(CurvePoint(iteration=100 * n, splats=splats, psnr_db=20.0 + n, ssim=0.8) for n in range(1, 5))
    return TrainingReport(
        backend="gsplat",
        device="cpu",
        preset="draft",
        photos=14,
        held_out=2,
        training_size_px=96,
        iterations=400,
        iterations_asked=400,
        stopped_early=False,
        splats=splats,
        psnr_db=24.0,
        ssim=0.88,
        masks="found",
        object_radius=RADIUS,
        seconds=30.0,
        curve=curve,
    )


def _rendering(params: NerfParams, shard: int) -> RenderingReport:
    return RenderingReport(
        batch=shard,
        artifact=f"frames/batch_{shard:02d}.zip",
        first_frame=144 * shard,
        frames=min(144, params.frames - 144 * shard),
        frames_rendered=10,
        frames_taken_over=0,
        size_px=params.frame_size_px,
        azimuth_step_deg=360 / params.azimuths,
        elevations_deg=ELEVATIONS_DEG,
        spacing_error_deg=0.0,
        mean_coverage=0.3,
        zip_bytes=1000,
        zip_sha256="0" * 64,
        device="cpu",
        seconds=4.0,
        frames_per_second=10.0,
    )
