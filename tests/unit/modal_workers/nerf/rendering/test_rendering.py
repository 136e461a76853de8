"""Rendering: even orbits, transparent PNG frames, checked batches, and no stored frame is rendered twice."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import math
import random
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from contracts.errors import ErrorCode, SaccadeError
from modal_workers.gaussians.densification import splats_from_points
from modal_workers.nerf.orbit import FILLED, CameraOrbit, elevations_deg, focal_for
from modal_workers.nerf.params import BATCH_FRAMES, NerfParams
from modal_workers.nerf.rendering import job
from modal_workers.nerf.rendering.batch import check_frame, frame_range, named_entries, read_part, spacing_error_deg
from modal_workers.nerf.rendering.frames import Bytes, SplatFrames, decode_png, encode_png
from modal_workers.nerf.rendering.spec import RenderingReport
from modal_workers.nerf.scene import TrainedScene
from modal_workers.nerf.stored_zip import write_zip
from tests.harness.vision.stage_context import CrashingContext, FolderContext, Killed

PARAMS = NerfParams(frames=48, elevations=4, frame_size_px=48)
RADIUS = 0.2


def ball(*, opacity: float = 0.97) -> TrainedScene:
    """Return a ball whose colour encodes the direction from its centre."""
    generator = torch.Generator().manual_seed(5)
    ways = torch.nn.functional.normalize(torch.randn(400, 3, generator=generator), dim=1)
    splats = splats_from_points(ways * (RADIUS - 0.04), ways / 2 + 0.5, 0.02, opacity)
    return TrainedScene(RADIUS, 1.0, (10.0, 40.0), np.eye(4), splats)


def desk_with(folder: Path, scene: TrainedScene, shard: tuple[int, int] = (0, 1)) -> FolderContext:
    folder.mkdir(parents=True, exist_ok=True)
    desk = FolderContext(folder, shard=shard)
    scene.save(desk.kept / "scene.npz")
    return desk


def frames_in(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {entry.filename: archive.read(entry) for entry in archive.infolist()}


def test_an_orbit_is_even_rings_that_look_at_the_middle() -> None:
    orbit = CameraOrbit((5.0, 20.0, 35.0), 40, 1.3, 1.2, 64)
    assert len(orbit) == 120
    for frame in range(120):
        pose = orbit.world_from_camera(frame)
        assert np.allclose(pose[:3, :3].T @ pose[:3, :3], np.eye(3))
        assert np.linalg.det(pose[:3, :3]) == pytest.approx(1)
        azimuth, elevation = orbit.angles_deg(frame)
        assert (azimuth, elevation) == (9.0 * (frame % 40), (5.0, 20.0, 35.0)[frame // 40])
        x, y, z = pose[:3, 3]
        assert math.degrees(math.atan2(y, x)) % 360 == pytest.approx(azimuth % 360, abs=1e-9)
        assert math.degrees(math.asin(z / 1.3)) == pytest.approx(elevation)
        # the centre is on the optical axis, and up in the image is up in the world
        ahead = np.linalg.inv(pose) @ [0, 0, 0, 1]
        assert np.allclose(ahead[:3], [0, 0, 1.3])
        assert pose[2, 1] < 0
        assert pose[2, 0] == 0
    assert spacing_error_deg(orbit, range(120)) < 1e-9


def test_a_frame_that_is_off_its_place_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    orbit = CameraOrbit((5.0,), 40, 1.3, 1.2, 64)
    right = CameraOrbit.world_from_camera
    monkeypatch.setattr(CameraOrbit, "world_from_camera", lambda self, frame: right(self, frame - (frame == 7)))
    assert spacing_error_deg(orbit, range(40)) == pytest.approx(9.0)


def test_rings_go_over_what_was_photographed_unless_told_otherwise() -> None:
    assert elevations_deg(NerfParams(), (10.0, 40.0)) == (10.0, 20.0, 30.0, 40.0)
    one = NerfParams(elevations=1, frames=360)
    assert elevations_deg(one, (10.0, 40.0)) == (25.0,)
    own = NerfParams(elevations=2, frames=10, elevation_min_deg=-5, elevation_max_deg=60)
    assert elevations_deg(own, (10.0, 40.0)) == (-5.0, 60.0)
    above = NerfParams(elevations=2, frames=10, elevation_min_deg=50)
    assert elevations_deg(above, (10.0, 40.0)) == (50.0, 50.0)
    below = NerfParams(elevations=2, frames=10, elevation_max_deg=0)
    assert elevations_deg(below, (10.0, 40.0)) == (0.0, 0.0)


def test_batches_cover_all_frames_once() -> None:
    params = NerfParams(frames=1440)
    assert params.batches == 10
    every = [frame for batch in range(params.batches) for frame in frame_range(batch, params.frames)]
    assert every == list(range(1440))
    assert len(frame_range(1, BATCH_FRAMES + 5)) == 5


def test_frames_are_straight_alpha_that_other_readers_see(tmp_path: Path) -> None:
    desk = desk_with(tmp_path, ball())
    report = job.run(PARAMS, desk)
    files = frames_in(desk.saved / "frames/batch_00.zip")
    assert list(files) == [f"frame_{index:04d}.png" for index in range(48)]
    listing = json.loads((desk.saved / "frames/batch_00.json").read_text())
    for entry in listing["frames"]:
        data = files[entry["name"]]
        assert hashlib.sha256(data).hexdigest() == entry["sha256"]
        picture = Image.open(io.BytesIO(data))
        assert (picture.mode, picture.size) == ("RGBA", (48, 48))
        rgba = np.asarray(picture)
        assert rgba[..., 3].min() == 0
        assert rgba[..., 3].max() > 250
        # the ball has the expected size and is centred
        across = np.flatnonzero(rgba[24, :, 3] > 127)
        assert abs(len(across) - 48 * FILLED) < 4
        assert abs(across.mean() - 23.5) < 1.5
        # straight alpha: colours at the edge are as bright as inside
        rim = (rgba[..., 3] > 40) & (rgba[..., 3] < 120)
        assert rgba[rim][:, :3].max(1).mean() > 90
        assert np.all(rgba[rgba[..., 3] == 0] == 0)
    # the colour of the ball's front is the viewing direction
    for index in (0, 3, 6, 9):
        front = np.asarray(Image.open(io.BytesIO(files[f"frame_{index:04d}.png"])))[24, 24, :3] / 127.5 - 1
        eye = np.array(listing["frames"][index]["world_from_camera"])[:3, 3]
        assert front @ eye / np.linalg.norm(front) / np.linalg.norm(eye) > 0.9
    assert (report.frames, report.frames_rendered, report.frames_taken_over) == (48, 48, 0)
    assert report.spacing_error_deg < 1e-6
    assert report.azimuth_step_deg == 30.0
    zipped = (desk.saved / "frames/batch_00.zip").read_bytes()
    assert (report.zip_bytes, report.zip_sha256) == (len(zipped), hashlib.sha256(zipped).hexdigest())


def test_the_same_scene_gives_the_same_file_stored_and_without_a_time(tmp_path: Path) -> None:
    files = []
    for name in ("one", "two"):
        desk = desk_with(tmp_path / name, ball())
        job.run(PARAMS, desk)
        files.append((desk.saved / "frames/batch_00.zip").read_bytes())
    assert files[0] == files[1]
    with zipfile.ZipFile(io.BytesIO(files[0])) as archive:
        kinds = {(entry.compress_type, entry.date_time) for entry in archive.infolist()}
    assert kinds == {(zipfile.ZIP_STORED, (1980, 1, 1, 0, 0, 0))}


class CountingFrames(SplatFrames):
    """Frame source that records the rendered frames of all runs."""

    drawn: list[int]

    def frames(self, orbit: CameraOrbit, wanted: Iterable[int]) -> Iterator[tuple[int, Bytes]]:
        for index, rgba in super().frames(orbit, wanted):
            self.drawn.append(index)
            yield index, rgba


class DeskOfParts(CrashingContext):
    """Context that lists the frames stored before the crash."""

    def stored(self) -> set[str]:
        return {name for part in self.kept.glob("*_part_*.zip") for name in frames_in(part)}


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_killed_again_and_again_no_frame_that_was_stored_is_drawn_again(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modal_workers.nerf.rendering.shard.PART_FRAMES", 7)
    whole = desk_with(tmp_path / "whole", ball())
    job.run(PARAMS, whole)
    chance, folder, deaths = random.Random(seed), tmp_path / "killed", 0
    desk_with(folder, ball())
    while True:
        desk = DeskOfParts(folder)
        desk.fuse = chance.randint(3, 40) if deaths < 5 else 10**9
        before = desk.stored()
        source = CountingFrames(ball())
        source.drawn = []
        try:
            report = job.render(PARAMS, desk, ball(), source, source.device)
            break
        except Killed:
            deaths += 1
        finally:
            again = before & {f"frame_{index:04d}.png" for index in source.drawn}
            assert not again, f"seed {seed}: drawn again: {again}"
    assert deaths >= 2
    assert (report.frames_rendered, report.frames_taken_over) == (len(source.drawn), 48 - len(source.drawn))
    name = "frames/batch_00.zip"
    assert (folder / "saved" / name).read_bytes() == (whole.saved / name).read_bytes()


def test_a_part_that_is_damaged_is_drawn_again_and_the_others_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modal_workers.nerf.rendering.shard.PART_FRAMES", 12)
    desk = desk_with(tmp_path, ball())
    job.run(PARAMS, desk)
    expected = (desk.saved / "frames/batch_00.zip").read_bytes()
    part = desk.kept / "batch_00_part_1.zip"
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 0xFF
    part.write_bytes(data)
    (desk.kept / "rendering_000.json").unlink()
    report = job.run(PARAMS, desk)
    assert (report.frames_rendered, report.frames_taken_over) == (12, 36)
    assert (desk.saved / "frames/batch_00.zip").read_bytes() == expected


def test_a_shard_that_ended_does_nothing_and_the_next_one_has_the_next_frames(tmp_path: Path) -> None:
    params = NerfParams(frames=BATCH_FRAMES + 6, elevations=1, frame_size_px=32)
    desk = desk_with(tmp_path, ball(), shard=(1, 2))
    report = job.run(params, desk)
    assert (report.batch, report.first_frame, report.frames) == (1, 144, 6)
    assert list(frames_in(desk.saved / "frames/batch_01.zip")) == [
        f"frame_{index:04d}.png" for index in range(144, 150)
    ]
    (desk.kept / "scene.npz").unlink()
    assert job.run(params, desk) == report
    assert RenderingReport.model_validate_json((desk.kept / "rendering_001.json").read_bytes()) == report


def test_frames_on_which_nothing_solid_is_are_not_passed_on(tmp_path: Path) -> None:
    with pytest.raises(SaccadeError) as caught:
        job.run(PARAMS, desk_with(tmp_path, ball(opacity=0.05)))
    assert caught.value.code is ErrorCode.INPUT_UNREADABLE


def test_what_is_no_frame_is_told() -> None:
    orbit = CameraOrbit((5.0,), 40, 1.3, 1.2, 16)
    rgba = np.zeros((16, 16, 4), np.uint8)
    with pytest.raises(SaccadeError, match="no opaque pixel"):
        check_frame(0, encode_png(rgba), orbit)
    rgba[..., 3] = 255
    with pytest.raises(SaccadeError, match="no transparent pixel"):
        check_frame(0, encode_png(rgba), orbit)
    rgba[0, 0, 3] = 0
    assert check_frame(3, encode_png(rgba), orbit).azimuth_deg == 27.0
    with pytest.raises(SaccadeError, match="not 16 x 16"):
        check_frame(0, encode_png(rgba[:8]), orbit)
    with pytest.raises(SaccadeError, match="not 16 x 16"):
        check_frame(0, b"no picture", orbit)
    assert decode_png(b"no picture") is None


def test_a_file_that_is_cut_off_is_not_trusted(tmp_path: Path) -> None:
    orbit = CameraOrbit((5.0,), 40, 1.3, 1.2, 16)
    rgba = np.zeros((16, 16, 4), np.uint8)
    rgba[4:8, 4:8] = 255
    path = tmp_path / "part.zip"
    write_zip(path, named_entries([(3, encode_png(rgba))]))
    assert set(read_part(path, orbit) or {}) == {3}
    path.write_bytes(path.read_bytes()[:-10])
    assert read_part(path, orbit) is None


def test_a_sphere_fits_in_the_frame() -> None:
    focal = focal_for(0.3, 1.0)
    # the tangent ray of the sphere
    assert focal * math.tan(math.asin(0.3)) == pytest.approx(FILLED / 2)


def seen_from(azimuths_deg: range) -> TrainedScene:
    """Return the ball, photographed from these azimuths; each photo shows the splats that face it."""
    scene = ball()
    angles = np.radians(np.array(azimuths_deg, float))
    cameras = np.stack([np.cos(angles), np.sin(angles), np.full(len(angles), 0.4)], 1)
    assert scene.splats is not None
    outward = torch.nn.functional.normalize(scene.splats.means, dim=1).numpy()
    facing = outward @ (cameras / np.linalg.norm(cameras, axis=1)[:, None]).T > 0.15
    return dataclasses.replace(scene, cameras=cameras, seen_by=facing)


def listed(desk: FolderContext) -> list[dict[str, Any]]:
    frames: list[dict[str, Any]] = json.loads((desk.saved / "frames/batch_00.json").read_text())["frames"]
    return frames


def test_frames_cover_what_was_photographed_and_their_number_stays(tmp_path: Path) -> None:
    desk = desk_with(tmp_path, seen_from(range(0, 181, 10)))
    report = job.run(PARAMS, desk)
    assert (report.frames, report.seen) == (48, 48)
    assert report.arcs_deg == ((355.0, 190.0),)
    assert report.azimuth_step_deg == pytest.approx(190 / 11)
    assert report.spacing_error_deg < 1e-6
    assert list(frames_in(desk.saved / "frames/batch_00.zip")) == [f"frame_{index:04d}.png" for index in range(48)]
    assert max(frame["nearest_photo_deg"] for frame in listed(desk)) < 25
    assert min(frame["seen_share"] for frame in listed(desk)) > 0.8


def test_frames_of_a_side_without_photos_are_not_seen(tmp_path: Path) -> None:
    desk = desk_with(tmp_path, seen_from(range(0, 181, 10)))
    report = job.run(PARAMS.model_copy(update={"orbit": "full"}), desk)
    assert report.arcs_deg == ((0.0, 360.0),)
    for frame in listed(desk):
        behind = 215 <= frame["azimuth_deg"] <= 325
        assert not (behind and frame["seen"]), frame
        if behind:
            assert frame["nearest_photo_deg"] > 30
            assert frame["seen_share"] < 0.3
    assert report.seen == sum(frame["seen"] for frame in listed(desk))
    assert 24 <= report.seen <= 34


def test_a_side_that_training_could_not_see_is_not_seen_though_a_photo_is_near(tmp_path: Path) -> None:
    scene = seen_from(range(0, 360, 20))
    assert scene.seen_by is not None
    hidden = dataclasses.replace(scene, seen_by=scene.seen_by & (scene.splats.means[:, 0].numpy() < 0)[:, None])
    desk = desk_with(tmp_path, hidden)
    report = job.run(PARAMS, desk)
    front, back = (listed(desk)[index] for index in (0, 6))
    assert front["nearest_photo_deg"] < 15
    assert front["seen_share"] < 0.2
    assert back["seen_share"] > 0.8
    assert (front["seen"], back["seen"]) == (False, True)
    assert report.seen is not None
    assert report.seen < 48


def test_a_scene_of_an_earlier_version_is_rendered_all_around_and_nothing_is_claimed(tmp_path: Path) -> None:
    desk = desk_with(tmp_path, ball())
    report = job.run(PARAMS, desk)
    assert (report.arcs_deg, report.seen) == (((0.0, 360.0),), None)
    assert {frame["seen"] for frame in listed(desk)} == {None}
