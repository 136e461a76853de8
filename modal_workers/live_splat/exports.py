"""What a live splat shows while it grows and leaves behind: figures, versions for viewers, chunks, the whole model."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Final

import torch

from modal_workers.gaussians.ply import encode_ply
from modal_workers.live_splat.splat_model import LiveModel
from modal_workers.runtime.sessions.frame import SessionFrame
from modal_workers.runtime.sessions.live_context import LiveContext

_PLY: Final = "application/octet-stream"
#: Between two versions of the model that viewers fetch, and two looks at the score: both take work from training.
_PUBLISH_S: Final = 2.0
_SCORE_S: Final = 4.0
_CAMERAS: Final = 200
#: Figures that are too long, or of too short a life, to be kept.
_FLEETING: Final = ("cameras", "world_from_camera", "version")


class SplatExporter:
    """One session's, for its viewers and its bucket."""

    def __init__(self, context: LiveContext) -> None:
        """Show nothing yet."""
        self._context = context
        self._figures: dict[str, Any] = {}
        self._version = 0
        self._published_s = self._scored_s = 0.0
        self._published_steps = -1
        self._step_s = 0.0

    def note(self, **figures: Any) -> None:
        """Show figures of somebody else's."""
        self._figures |= figures

    def stepped(self, took_s: float) -> None:
        """Take note of how long a step of training took."""
        self._step_s += 0.1 * (took_s - self._step_s)

    def show(self, model: LiveModel, frame: SessionFrame | None) -> None:
        """Show how far the model is; its score and a new version for viewers when it is time."""
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

    def export(self, model: LiveModel) -> None:
        """Leave a chunk, and the state with it that a later run goes on from."""
        self._figures |= model.score()
        path = self._write(f"chunk_{self._context.chunks + 1:04d}.ply", model)
        self._context.export_chunk(path, self._state(model), self.figures(model))
        self._publish(model)

    def begin_anew(self) -> Path:
        """Forget all figures and give the state of nothing."""
        self._figures = {}
        return self._state(None)

    def finish(self, model: LiveModel, *, chunk: bool) -> None:
        """Leave the whole model, and before it what came after the newest chunk."""
        if chunk:
            self.export(model)
        path = self._write("model.ply", model)
        self._context.save(path, "model.ply", _PLY, title="The whole model", units={"x": "m", "y": "m", "z": "m"})

    def figures(self, model: LiveModel | None) -> dict[str, Any]:
        """Give the figures that are worth keeping."""
        return {name: value for name, value in self._all(model).items() if name not in _FLEETING}

    def _all(self, model: LiveModel | None) -> dict[str, Any]:
        return self._figures | {
            "version": self._version,
            "splats": 0 if model is None else len(model.splats),
            "steps": 0 if model is None else model.steps,
            "step_ms": round(1e3 * self._step_s, 2),
        }

    def _publish(self, model: LiveModel) -> None:
        """Put the newest model where viewers fetch it, the most important splats first."""
        whole = self._write("live.ply", model)
        self._version += 1
        self._figures["ply_bytes"] = whole.stat().st_size
        self._context.publish(whole, "live.ply", _PLY)

    def _write(self, name: str, model: LiveModel) -> Path:
        path = self._context.scratch / name
        encode_ply(model.splats.detach(), importance=model.density.importance()).write(path)
        return path

    def _state(self, model: LiveModel | None) -> Path:
        path = self._context.scratch / "state"
        if model is None:
            path.write_bytes(b"")
        else:
            model.save(path)
        return path


def _world_from_camera(model: LiveModel, number: int) -> list[float]:
    """Give the pose of a frame's camera, 16 numbers row by row."""
    camera_from_world = model.keyframes[number].correction.camera_from_world().double().cpu()
    return [round(float(value), 6) for value in torch.linalg.inv(camera_from_world).reshape(-1)]
