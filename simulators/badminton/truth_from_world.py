"""Projects a match into the frames of its camera: the ground truth without rendering."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from modal_workers.badminton.players.persons import KEYPOINTS
from simulators.badminton.body.skeleton import JOINTS
from simulators.badminton.bystanders import Bystander, make_bystanders
from simulators.badminton.frame_times import frame_times
from simulators.badminton.match_options import MatchOptions
from simulators.badminton.match_truth import MatchTruth, TrueHit
from simulators.badminton.match_world import MatchWorld, make_world
from simulators.badminton.picture.match_camera import CameraMotion, CameraPose, camera_motion, play_camera
from simulators.badminton.picture.person_drawing import person_boxes
from simulators.badminton.play.match_script import MatchScript, PlayedHit, TrueRally
from simulators.badminton.segments import plan_segments

Floats = NDArray[np.float64]
Masks = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class FilmedMatch:
    """A match, its bystanders, its camera, and the truth of its video."""

    world: MatchWorld
    bystanders: tuple[Bystander, ...]
    camera: CameraPose
    motion: CameraMotion
    truth: MatchTruth


def make_match(options: MatchOptions) -> FilmedMatch:
    """Play and film a match, without rendering it."""
    world = make_world(options)
    times = frame_times(options)
    shuttle, state = world.shuttle(times)
    camera = play_camera(options)
    motion = camera_motion(options, times, shuttle)
    bystanders = make_bystanders(options)
    segments = plan_segments(options, world.script)
    filmed = np.zeros(len(times), bool)
    for segment in segments:
        filmed |= (times >= segment.start_s) & (times < segment.end_s) & (segment.kind == "play")
    poses = [motion.pose(camera, index) for index in range(len(times))] if not motion.still else [camera] * len(times)
    matrices = np.where(filmed[:, None, None], np.array([pose.image_from_world for pose in poses]), np.nan)

    joints = world.joints(times)
    pixel, depth = projected(matrices, joints)
    heights = [look.height_m * look.width for look in world.looks]
    boxes = np.array([person_boxes(p, d, camera.focal_px, h) for p, d, h in zip(pixel, depth, heights, strict=True)])
    keypoints = pixel[:, :, : len(KEYPOINTS)]
    size = (camera.width_px, camera.height_px)
    shuttle_px, shuttle_depth = projected(matrices, shuttle[None, :, None])
    shown = _inside(shuttle_px, shuttle_depth, size)[0, :, 0]
    shown &= ~_behind_players(pixel, depth, shuttle_px[0, :, 0], shuttle_depth[0, :, 0], camera.focal_px)
    ankles = joints[:, :, [JOINTS["left_ankle"], JOINTS["right_ankle"]], :2]
    truth = MatchTruth(
        options=options,
        time_s=times,
        image_from_court=matrices[:, :, [0, 1, 3]] * (1.0 if options.scene == "badminton" else np.nan),
        image_from_world=matrices,
        positions_m=ankles.mean(axis=2),
        hips_m=joints[:, :, JOINTS["pelvis"], :2],
        speeds_mps=np.linalg.norm(world.velocities(times), axis=-1),
        keypoints_px=keypoints,
        keypoints_visible=_inside(keypoints, depth[:, :, : len(KEYPOINTS)], size),
        boxes_px=cut_off(boxes.reshape(len(world.bodies), len(times), 4), size),
        bystander_boxes_px=_bystander_boxes(bystanders, matrices, times, camera),
        shuttle_m=shuttle,
        shuttle_px=shuttle_px[0, :, 0],
        shuttle_visible=shown,
        shuttle_state=state,
        shuttle_speeds_mps=_shuttle_speeds(world, times),
        hits=_hits(world.script.hits, times, options),
        passes=_hits(world.script.passes, times, options),
        rallies=tuple(_cut(rally, options.duration_s) for rally in world.script.rallies),
        segments=segments,
        changes_of_ends_s=_changes(world.script, options),
    )
    return FilmedMatch(world, bystanders, camera, motion, truth)


def projected(matrices: Floats, points_m: Floats) -> tuple[Floats, Floats]:
    """Return pixels [P, N, J, 2] and depths [P, N, J] of points [P, N, J, 3] in frames with matrices [N, 3, 4]."""
    mapped = np.einsum("nij,pnkj->pnki", matrices[:, :, :3], points_m) + matrices[None, :, None, :, 3]
    depth = mapped[..., 2]
    in_front = np.where(depth > 0.05, depth, np.nan)
    return mapped[..., :2] / in_front[..., None], np.nan_to_num(depth)


def cut_off(boxes: Floats, size: tuple[int, int]) -> Floats:
    """Return boxes [..., 4] cut off at the picture's edges; NaN outside of it."""
    width, height = size
    edge = np.array([width, height, width, height]) - 0.5
    cut = np.clip(boxes, -0.5, edge)
    empty = (cut[..., 2] - cut[..., 0] < 1) | (cut[..., 3] - cut[..., 1] < 1)
    return np.where(empty[..., None], np.nan, cut)


def _inside(pixel: Floats, depth: Floats, size: tuple[int, int]) -> Masks:
    with np.errstate(invalid="ignore"):
        within = (pixel >= -0.5) & (pixel < np.array(size) - 0.5)
    return np.asarray(within.all(axis=-1) & (depth > 0.05))


def _behind_players(pixel: Floats, depth: Floats, at: Floats, at_depth: Floats, focal_px: float) -> Masks:
    """Return whether each shuttle [N, 2] is behind a player's trunk, legs or head, as seen by the camera."""
    hidden = np.zeros(len(at), bool)
    for first, second, radius in (
        ("neck", "pelvis", 0.13),
        ("head", "head", 0.1),
        ("left_hip", "left_knee", 0.075),
        ("right_hip", "right_knee", 0.075),
        ("left_knee", "left_ankle", 0.045),
        ("right_knee", "right_ankle", 0.045),
    ):
        a, b = pixel[:, :, JOINTS[first]], pixel[:, :, JOINTS[second]]
        limb_depth = (depth[:, :, JOINTS[first]] + depth[:, :, JOINTS[second]]) / 2
        way = b - a
        share = np.sum((at - a) * way, axis=-1) / np.maximum(np.sum(way * way, axis=-1), 1e-9)
        foot = a + np.clip(share, 0, 1)[..., None] * way
        with np.errstate(invalid="ignore"):
            near = np.linalg.norm(at - foot, axis=-1) < radius * focal_px / np.maximum(limb_depth, 0.05)
        hidden |= (near & (limb_depth < at_depth)).any(axis=0)
    return hidden


def _shuttle_speeds(world: MatchWorld, times: Floats) -> Floats:
    before, after = world.shuttle(times - 0.001)[0], world.shuttle(times + 0.001)[0]
    return np.asarray(np.linalg.norm(after - before, axis=-1) / 0.002)


def _hits(hits: list[PlayedHit], times: Floats, options: MatchOptions) -> tuple[TrueHit, ...]:
    return tuple(
        TrueHit(hit.time_s, int(np.abs(times - hit.time_s).argmin()), hit.player, hit.xyz_m, str(hit.shot))
        for hit in hits
        if hit.time_s < options.duration_s
    )


def _cut(rally: TrueRally, duration_s: float) -> TrueRally:
    return rally if rally.end_s <= duration_s else TrueRally(**{**rally.__dict__, "complete": False})


def _changes(script: MatchScript, options: MatchOptions) -> tuple[tuple[float, float], ...]:
    return tuple((start, end) for start, end in script.changes_of_ends_s if start < options.duration_s)


def _bystander_boxes(bystanders: tuple[Bystander, ...], matrices: Floats, times: Floats, camera: CameraPose) -> Floats:
    boxes = np.empty((len(bystanders), len(times), 4))
    for number, bystander in enumerate(bystanders):
        pixel, depth = projected(matrices, bystander.body.sampled(times)[None])
        size = bystander.look.height_m * bystander.look.width
        boxes[number] = person_boxes(pixel[0], depth[0], camera.focal_px, size)
    return cut_off(boxes, (camera.width_px, camera.height_px))
