"""Session of the watching worker: its model is the list of accepted frames."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

from contracts.errors import ErrorCode, SaccadeError
from contracts.session import SessionResult
from modal_workers.runtime.sessions.frame import SessionFrame
from modal_workers.runtime.sessions.live_context import LiveContext
from tests.session_workers.watching.spec import WatchingParams


class Notes:
    """List of the accepted frames, in order."""

    def __init__(self, params: WatchingParams, context: LiveContext) -> None:
        self.params, self.context = params, context
        restored = context.saved_state()
        self.lines: list[dict[str, object]] = json.loads(restored.read_text()) if restored else []
        self.here = 0

    def write(self, name: str) -> Path:
        path = self.context.scratch / name
        path.write_text(json.dumps(self.lines))
        return path

    def take(self, frame: SessionFrame) -> None:
        # A camera's picture has the words behind its end, where no decoder looks.
        _, mark, words = frame.image.rpartition(b"picture")
        if not mark:
            self.context.reject(frame, SaccadeError(ErrorCode.FRAME_UNREADABLE))
            return
        time.sleep(self.params.service_s)
        joints = self.context.joints_at(frame)
        steps = frame.recorded_ack.steps if frame.recorded_ack else int(time.time() * 1e6) % 1000
        self.lines.append(
            {
                "seq": frame.seq,
                "picture": (mark + words).decode(),
                "positions": joints.positions if joints else None,
                "steps": steps,
            }
        )
        self.context.accept(frame, joints=joints, idle_steps=0, steps=steps or 0)
        self.context.report({"lines": len(self.lines)}, frame=frame)
        self.here += 1
        if len(self.lines) % self.params.chunk_frames == 0:
            self.chunk()
        if self.here == self.params.dies_after and not self.context.replaying:
            os.kill(os.getpid(), signal.SIGKILL)

    def chunk(self) -> None:
        self.context.export_chunk(self.write("chunk.json"), self.write("state"), {"lines": len(self.lines)})


def run(params: WatchingParams, context: LiveContext) -> SessionResult:
    notes = Notes(params, context)
    with context.stage("live"):
        while not context.ending:
            if context.take_reset():
                notes.lines = []
                context.save_after_reset(notes.write("state"))
            if frame := context.next_frame(0.05):
                notes.take(frame)
        notes.chunk()
        context.finish(0)
        return SessionResult(
            reason=context.stop_reason,
            chunks=context.chunks,
            totals=context.totals,
            figures={"lines": len(notes.lines)},
        )
