"""A live splat session: take a frame, train on it, publish the model, export chunks."""

from __future__ import annotations

import time
from typing import Final

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from contracts.errors import ErrorCode, SaccadeError
from modal_workers.live_splat.camera_poses import ArmCameraPoses
from modal_workers.live_splat.exports import SplatExporter
from modal_workers.live_splat.frame_image import FrameDecoder, FrameImage
from modal_workers.live_splat.kinematics import SO101
from modal_workers.live_splat.spec import LiveSplatParams, LiveSplatResult
from modal_workers.live_splat.splat_model import LiveModel
from modal_workers.runtime.sessions.frame import SessionFrame
from modal_workers.runtime.sessions.joint_track import JointState
from modal_workers.runtime.sessions.live_context import LiveContext

_MIN_STEPS: Final = 2
#: Limit of steps between two frames; without a new frame, more of them improve little.
_IDLE_STEPS: Final = 400
_JOINTS_AT_ZERO: Final = JointState(SO101.joint_names, (0.0,) * len(SO101.joint_names), gap_s=0.0)


def run(params: LiveSplatParams, context: LiveContext) -> LiveSplatResult:
    """Grow a splat until the session ends.

    Raises:
        SaccadeError: STORAGE_UNAVAILABLE, BUS_UNAVAILABLE, if they stay unavailable; errors of a frame reject it.
    """
    cv2.setNumThreads(1)
    torch.use_deterministic_algorithms(True, warn_only=True)
    with context.stage("live"):
        return LiveSplatSession(params, context).run()


class LiveSplatSession:
    """State of one session."""

    def __init__(self, params: LiveSplatParams, context: LiveContext) -> None:
        """Restore the newest chunk, if there is one."""
        self._params, self._context = params, context
        self._decoder = FrameDecoder(params)
        self._exporter = SplatExporter(context)
        self._model: LiveModel | None = None
        self._restored = context.saved_state()
        self._since_chunk = 0

    def run(self) -> LiveSplatResult:
        """Process frames until the session ends; train on earlier frames in between."""
        context = self._context
        while not context.ending:
            if context.take_reset():
                self._reset()
            frame = context.next_frame(0.0 if self._may_idle() else 0.05)
            if frame is not None:
                self._process(frame)
            elif self._may_idle():
                self._idle()
            if self._model is not None:
                self._exporter.update(self._model, frame)
        return self._finish()

    def _process(self, frame: SessionFrame) -> None:
        try:
            image = self._decoder.decode(frame.image)
            joints = self._context.joints_at(frame)
            if joints is None and self._params.missing_joints == "zeros":
                joints = _JOINTS_AT_ZERO
            if joints is None:
                raise SaccadeError(ErrorCode.JOINTS_MISSING)
            positions = ArmCameraPoses.in_order(joints.names or SO101.joint_names, joints.positions)
        except SaccadeError as error:
            self._context.reject(frame, error)
            return
        recorded, model = frame.recorded_ack, self._ensure_model()
        if recorded is not None:  # a replay repeats exactly the recorded steps
            self._idle_until(recorded.idle_steps or 0)
        idle_steps = model.idle_steps
        steps = self._train_on(image, positions, None if recorded is None else recorded.steps or 0)
        self._exporter.add_figures(joints_gap_ms=round(1e3 * joints.gap_s, 2))
        self._context.accept(frame, joints=joints, idle_steps=idle_steps, steps=steps)
        self._since_chunk += 1
        if self._since_chunk >= self._params.chunk_frames:
            self._since_chunk = 0
            self._exporter.export_chunk(self._ensure_model())

    def _train_on(self, image: FrameImage, positions: NDArray[np.float64], recorded_steps: int | None) -> int:
        """Add a frame and train until its time budget is used, or for a recorded number of steps."""
        steps, end_s = 0, time.monotonic() + self._params.frame_budget_s
        self._ensure_model().add(image, positions)
        while steps < recorded_steps if recorded_steps is not None else steps < _MIN_STEPS or time.monotonic() < end_s:
            self._step()
            steps += 1
        return steps

    def _step(self) -> None:
        began_s = time.monotonic()
        self._ensure_model().train()
        self._exporter.record_step(time.monotonic() - began_s)

    def _idle(self) -> None:
        self._step()  # of no frame
        self._ensure_model().idle_steps += 1

    def _idle_until(self, idle_steps: int) -> None:
        """Run the idle steps that are left of so many: the restored state may have some of them."""
        while self._ensure_model().idle_steps < idle_steps:
            self._idle()

    def _may_idle(self) -> bool:
        if self._model is None or not len(self._model.splats) or self._context.replaying:
            return False
        return self._model.idle_steps < _IDLE_STEPS

    def _ensure_model(self) -> LiveModel:
        """Return the model; create it with the first frame, which determines the camera."""
        if self._model is None:
            self._model = LiveModel(self._params, *self._decoder.cameras, self._decoder.matrix())
            if self._restored is not None and self._restored.stat().st_size:
                self._model.restore(self._restored)
        return self._model

    def _restored_model(self) -> LiveModel | None:
        """Return the restored model of a run that ends without a frame of its own; None if there is none."""
        if self._restored is None or (size := LiveModel.picture_size(self._restored)) is None:
            return None
        self._decoder.set_size(*size)
        model = self._ensure_model()
        self._exporter.add_figures(**model.score())
        return model

    def _reset(self) -> None:
        self._model, self._restored = None, None
        self._decoder, self._since_chunk = FrameDecoder(self._params), 0
        self._context.save_after_reset(self._exporter.reset())

    def _finish(self) -> LiveSplatResult:
        """Export the last chunk and the whole model."""
        context, model = self._context, self._model or self._restored_model()
        if model is not None and context.replaying:
            self._idle_until(context.recorded_idle_steps or 0)
        self._exporter.finish(model, chunk=bool(self._since_chunk or not context.chunks))
        context.finish(0 if model is None else model.idle_steps)
        return self._exporter.result(model)
