"""A live splat from its first frame to the whole model: take a frame, explain it, show it, leave a chunk."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import torch

from contracts.errors import ErrorCode, SaccadeError
from modal_workers.gaussians.ply import encode_ply
from modal_workers.live_splat.kinematics import SO101
from modal_workers.live_splat.model import LiveModel
from modal_workers.live_splat.picture import Picture, Pictures
from modal_workers.live_splat.poses import ArmPoses
from modal_workers.live_splat.spec import LiveSplatParams, LiveSplatResult
from modal_workers.runtime.live.context import LiveContext
from modal_workers.runtime.live.frame import Frame

_PLY: Final = "application/octet-stream"
PREVIEW_SPLATS: Final = 50_000
#: Between two versions of the model that viewers fetch, and two looks at the score: both take work from training.
_PUBLISH_S: Final = 2.0
_SCORE_S: Final = 4.0
_FEWEST_STEPS: Final = 2
_CAMERAS: Final = 200
#: Steps between two frames; with no new frame, more of them explain little more.
_IDLE_STEPS: Final = 400


def run(params: LiveSplatParams, context: LiveContext) -> LiveSplatResult:
    """Grow a splat until the session ends.

    Raises:
        SaccadeError: STORAGE_UNAVAILABLE, BUS_UNAVAILABLE, when they stay away; a frame's errors reject the frame.
    """
    cv2.setNumThreads(1)
    torch.use_deterministic_algorithms(True, warn_only=True)
    with context.stage("live"):
        return LiveSplat(params, context).run()


class LiveSplat:
    """One session's work."""

    def __init__(self, params: LiveSplatParams, context: LiveContext) -> None:
        """Go on from the newest chunk, if there is one."""
        self._params, self._context = params, context
        self._pictures = Pictures(params)
        self._model: LiveModel | None = None
        self._restored = context.restored()
        self._idle_steps = 0
        self._since_chunk = 0
        self._version = 0
        self._published_s = self._scored_s = 0.0
        self._published_steps = -1
        self._figures: dict[str, Any] = {}
        self._newest: list[float] | None = None
        self._step_s = 0.0

    def run(self) -> LiveSplatResult:
        """Take frames until the end; between two of them there is time to train on those that were before."""
        context = self._context
        while not context.ending:
            if context.take_reset():
                self._begin_anew()
            frame = context.frame(0.0 if self._may_idle() else 0.05)
            if frame is not None:
                self._take(frame)
            elif self._may_idle():
                self._step()
                self._idle_steps += 1
            self._show(frame)
        return self._finish()

    # -- frames -------------------------------------------------------------------------------------------------

    def _take(self, frame: Frame) -> None:
        try:
            picture = self._pictures.read(frame.picture)
            joints = self._context.joints_at(frame)
            if joints is None:
                raise SaccadeError(ErrorCode.JOINTS_MISSING)
            positions = ArmPoses.in_order(joints.names or SO101.joint_names, joints.positions)
        except SaccadeError as error:
            self._context.reject(frame, error.code)
            return
        idle_steps, recorded = self._idle_steps, frame.recorded
        if recorded is not None:  # what was done before it is done again, no more and no less
            idle_steps = recorded.idle_steps or 0
            for _ in range(idle_steps - self._idle_steps):
                self._step()
        self._idle_steps = 0
        steps = self._explain(picture, positions, None if recorded is None else recorded.steps or 0)
        self._newest = self._world_from_camera()
        self._figures["joints_gap_ms"] = round(1e3 * joints.gap_s, 2)
        self._context.accept(frame, joints=joints, idle_steps=idle_steps, steps=steps)
        self._since_chunk += 1
        if self._since_chunk >= self._params.chunk_frames:
            self._chunk()

    def _explain(self, picture: Picture, positions: np.ndarray[Any, np.dtype[np.float64]], wanted: int | None) -> int:
        """Add a frame and train for as long as its budget lasts, or as many steps as were done before."""
        model = self._ready()
        began_s = time.monotonic()
        model.add(picture, positions)
        steps = 0
        while steps < wanted if wanted is not None else self._has_time(steps, began_s):
            self._step()
            steps += 1
        return steps

    def _has_time(self, steps: int, began_s: float) -> bool:
        return steps < _FEWEST_STEPS or time.monotonic() - began_s < self._params.frame_budget_s

    def _step(self) -> None:
        began_s = time.monotonic()
        self._ready().train()
        self._step_s += 0.1 * (time.monotonic() - began_s - self._step_s)

    def _may_idle(self) -> bool:
        if self._model is None or not len(self._model.splats) or self._context.replaying:
            return False
        return self._idle_steps < _IDLE_STEPS

    def _ready(self) -> LiveModel:
        """Give the model; made with the first picture, for only then the camera is known."""
        if self._model is None:
            camera, training_camera = self._pictures.camera, self._pictures.training_camera
            assert camera is not None
            assert training_camera is not None
            self._model = LiveModel(self._params, camera, training_camera, self._pictures.matrix())
            if self._restored is not None and self._restored.stat().st_size:
                self._model.restore(self._restored)
        return self._model

    def _begin_anew(self) -> None:
        self._model, self._restored = None, None
        self._pictures = Pictures(self._params)
        self._idle_steps = self._since_chunk = 0
        self._newest, self._figures = None, {}
        self._context.began_anew(self._state())

    # -- what is shown and left ---------------------------------------------------------------------------------

    def _show(self, frame: Frame | None) -> None:
        now_s = time.monotonic()
        model = self._model
        if model is None or not len(model.splats):
            return
        if now_s - self._scored_s > _SCORE_S:
            self._scored_s = now_s
            self._figures |= model.score()
            self._figures["cameras"] = [
                self._pose_of(number) for number in range(max(0, len(model.keyframes) - _CAMERAS), len(model.keyframes))
            ]
        if now_s - self._published_s > _PUBLISH_S and model.steps != self._published_steps:
            self._published_s, self._published_steps = now_s, model.steps
            self._publish(model)
        self._context.show(self._told(), frame=frame)

    def _told(self) -> dict[str, Any]:
        model = self._model
        return self._figures | {
            "version": self._version,
            "splats": 0 if model is None else len(model.splats),
            "steps": 0 if model is None else model.steps,
            "step_ms": round(1e3 * self._step_s, 2),
            "world_from_camera": self._newest,
        }

    def _publish(self, model: LiveModel) -> None:
        """Put the newest model where viewers fetch it, the most important splats first."""
        whole = self._write("live.ply", model)
        self._version += 1
        self._figures["ply_bytes"] = whole.stat().st_size
        self._context.publish(whole, "live.ply", _PLY)

    def _chunk(self) -> None:
        model = self._ready()
        self._since_chunk = 0
        self._figures |= model.score()
        figures = {key: value for key, value in self._told().items() if key not in ("cameras", "version")}
        number = self._context.chunks + 1
        path = self._write(f"chunk_{number:04d}.ply", model)
        self._context.export_chunk(path, self._state(), figures)
        self._publish(model)

    def _write(self, name: str, model: LiveModel) -> Path:
        path = self._context.scratch / name
        encode_ply(model.splats.detach(), importance=model.density.importance()).write(path)
        return path

    def _state(self) -> Path:
        path = self._context.scratch / "state"
        if self._model is None:
            path.write_bytes(b"")
        else:
            self._model.save(path)
        return path

    def _finish(self) -> LiveSplatResult:
        """Leave the last chunk and the whole model."""
        context, model = self._context, self._model
        if model is not None and context.replaying:
            for _ in range(context.recorded_idle_steps or 0):
                self._step()
                self._idle_steps += 1
        if model is not None and (self._since_chunk or not context.chunks):
            self._chunk()
        if model is not None:
            path = self._write("model.ply", model)
            context.save(path, "model.ply", _PLY, title="The whole model", units={"x": "m", "y": "m", "z": "m"})
        context.end(self._idle_steps)
        offsets = np.zeros(len(SO101.joint_names)) if model is None else model.poses.offsets_rad
        figures = {key: value for key, value in self._told().items() if key not in ("cameras", "world_from_camera")}
        return LiveSplatResult(
            reason=context.reason,
            chunks=context.chunks,
            totals=context.totals,
            figures=figures,
            splats=0 if model is None else len(model.splats),
            psnr_db=self._figures.get("psnr_db"),
            steps=0 if model is None else model.steps,
            joint_offsets_rad={
                name: round(float(offset), 6) for name, offset in zip(SO101.joint_names, offsets, strict=True)
            },
        )

    def _world_from_camera(self) -> list[float] | None:
        model = self._model
        return self._pose_of(len(model.keyframes) - 1) if model is not None and model.keyframes else None

    def _pose_of(self, number: int) -> list[float]:
        assert self._model is not None
        camera_from_world = self._model.keyframes[number].correction.camera_from_world().double()
        return [round(float(value), 6) for value in torch.linalg.inv(camera_from_world).reshape(-1)]
