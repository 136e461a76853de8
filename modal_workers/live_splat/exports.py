"""Output of a live splat session: figures, versions for viewers, chunks, the whole model."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from modal_workers.gaussians.ply import encode_ply
from modal_workers.live_splat.kinematics import SO101
from modal_workers.live_splat.spec import STATUS_NAME, LiveSplatResult, chunk_name, training_progress
from modal_workers.live_splat.splat_model import LiveModel
from modal_workers.runtime.sessions.frame import SessionFrame
from modal_workers.runtime.sessions.live_context import LiveContext

_PLY: Final = "application/octet-stream"
#: Intervals of model versions for viewers and of scores: both take time from training.
_PUBLISH_S: Final = 2.0
_SCORE_S: Final = 4.0
_CAMERAS: Final = 200
#: Figures that are too long or too short-lived to keep.
_TRANSIENT: Final = ("cameras", "world_from_camera", "version")


class SplatExporter:
    """Exporter of one session, for its viewers and its bucket."""

    def __init__(self, context: LiveContext) -> None:
        """Start without figures."""
        self._context = context
        self._figures: dict[str, Any] = {}
        self._version = 0
        self._published_s = self._scored_s = 0.0
        self._published_steps = -1
        self._step_s = 0.0

    def add_figures(self, **figures: Any) -> None:
        """Add figures computed elsewhere."""
        self._figures |= figures

    def record_step(self, took_s: float) -> None:
        """Record the duration of a training step."""
        self._step_s += 0.1 * (took_s - self._step_s)

    def update(self, model: LiveModel, frame: SessionFrame | None) -> None:
        """Publish the progress; the score and a new version for viewers at their intervals."""
        now_s = time.monotonic()
        if not len(model.splats):
            return
        if now_s - self._scored_s > _SCORE_S:
            self._scored_s = now_s
            count = len(model.keyframes)
            cameras = [_world_from_camera(model, number) for number in range(max(0, count - _CAMERAS), count)]
            self._figures |= model.score() | {"cameras": cameras}
        if now_s - self._published_s > _PUBLISH_S and model.steps != self._published_steps:
            self._published_s, self._published_steps = now_s, model.steps
            self._publish(model)
        newest = _world_from_camera(model, len(model.keyframes) - 1)
        self._context.report(self._all(model) | {"world_from_camera": newest}, frame=frame)

    def export_chunk(self, model: LiveModel) -> None:
        """Export a chunk with the state from which a later run resumes."""
        self._figures |= model.score()
        path = self._write(chunk_name(self._context.chunks + 1), model)
        self._context.export_chunk(path, self._state(model), self.figures(model))
        self._publish(model)

    def reset(self) -> Path:
        """Clear all figures and return the empty state."""
        self._figures = {}
        self._publish_status(None)
        return self._state(None)

    def finish(self, model: LiveModel | None, *, chunk: bool) -> None:
        """Export the whole model, if there is one, and before it a chunk with what came after the newest one."""
        if model is not None:
            if chunk:
                self.export_chunk(model)
            path = self._write("model.ply", model)
            self._context.save(path, "model.ply", _PLY, title="The whole model", units={"x": "m", "y": "m", "z": "m"})
        self._publish_status(model, complete=True)

    def result(self, model: LiveModel | None) -> LiveSplatResult:
        """Return the session's result."""
        figures = self.figures(model)
        offsets_rad = np.zeros(len(SO101.joint_names)) if model is None else model.poses.offsets_rad
        return LiveSplatResult(
            reason=self._context.stop_reason,
            chunks=self._context.chunks,
            totals=self._context.totals,
            figures=figures,
            splats=figures["splats"],
            psnr_db=figures.get("psnr_db"),
            steps=figures["steps"],
            joint_offsets_rad=dict(zip(SO101.joint_names, map(float, offsets_rad.round(6)), strict=True)),
        )

    def figures(self, model: LiveModel | None) -> dict[str, Any]:
        """Return the figures to keep."""
        return {name: value for name, value in self._all(model).items() if name not in _TRANSIENT}

    def _all(self, model: LiveModel | None) -> dict[str, Any]:
        return self._figures | {
            "version": self._version,
            "splats": 0 if model is None else len(model.splats),
            "steps": 0 if model is None else model.steps,
            "step_ms": round(1e3 * self._step_s, 2),
        }

    def _publish(self, model: LiveModel) -> None:
        """Publish the newest model for viewers, the most important splats first."""
        whole = self._write("live.ply", model)
        self._version += 1
        self._figures["ply_bytes"] = whole.stat().st_size
        self._context.publish(whole, "live.ply", _PLY)
        self._publish_status(model)

    def _publish_status(self, model: LiveModel | None, *, complete: bool = False) -> None:
        """Publish the file that clients of the replaced splat server watch: counts, and the names of the chunks."""
        frames = 0 if model is None else model.frames
        status = {
            "progress": training_progress(frames, complete=complete),
            "chunks": [chunk_name(number + 1) for number in range(self._context.chunks)],
            "complete": complete,
            "frame_count": frames,
            "gaussian_count": 0 if model is None else len(model.splats),
        }
        path = self._context.scratch / STATUS_NAME
        path.write_text(json.dumps(status))
        self._context.publish(path, STATUS_NAME, "application/json")

    def _write(self, name: str, model: LiveModel) -> Path:
        path = self._context.scratch / name
        encode_ply(model.splats.detach(), importance=model.densifier.importance()).write(path)
        return path

    def _state(self, model: LiveModel | None) -> Path:
        path = self._context.scratch / "state"
        if model is None:
            path.write_bytes(b"")
        else:
            model.save(path)
        return path


def _world_from_camera(model: LiveModel, number: int) -> list[float]:
    """Return the pose of a frame's camera, 16 numbers row by row."""
    camera_from_world = model.keyframes[number].correction.camera_from_world().double().cpu()
    return [round(float(value), 6) for value in torch.linalg.inv(camera_from_world).reshape(-1)]
