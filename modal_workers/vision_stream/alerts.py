"""Alerts of one session: published when a rule fires, also those that a lost run still had to publish."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from contracts.events.base import EventData
from contracts.events.session import SessionAlert, SessionResetRequested, SessionText
from modal_workers.runtime.sessions.live_context import LiveContext
from modal_workers.vision_stream.chunks import ShownChunk
from modal_workers.vision_stream.key_frames import encode_jpeg
from modal_workers.vision_stream.rules import RuleFired, WatchRules
from modal_workers.vision_stream.spec import VisionStreamParams

_IMAGE_BYTES: Final = 300_000


class Alerts:
    """The rules of one session and their alerts."""

    def __init__(self, params: VisionStreamParams, context: LiveContext) -> None:
        """Start without an alert."""
        self._params, self._context = params, context
        self._rules = WatchRules(params.rules)
        #: Number of the newest alert.
        self.count = 0

    def update(self, text: SessionText, chunk: ShownChunk) -> None:
        """Publish the alerts that a text causes."""
        for fired in self._rules.update(text):
            self._publish(fired, chunk)

    def reset(self) -> None:
        """Forget the state of the rules; the numbers of the alerts go on."""
        self._rules.reset()

    def resume(self, events: Sequence[EventData], last: ShownChunk | None) -> None:
        """Apply the events of earlier runs; publish the alerts of the newest text that a lost run did not publish."""
        published: set[tuple[str, int]] = set()
        due: list[RuleFired] = []
        for event in events:
            if isinstance(event, SessionResetRequested):
                self._rules.reset()
            elif isinstance(event, SessionAlert):
                self.count = max(self.count, event.alert)
                published.add((event.rule, event.chunk))
            elif isinstance(event, SessionText):
                # Events are stored in order: only the newest text can be without its alerts.
                due = self._rules.update(event)
        for fired in due:
            if (fired.rule.name, fired.text.chunk) not in published:
                self._publish(fired, last)

    def _publish(self, fired: RuleFired, chunk: ShownChunk | None) -> None:
        """Publish an alert with the newest frame that backs it, if that frame is at hand."""
        self.count += 1
        image = None
        newest = (fired.text.source, fired.frames[-1].seq) if fired.frames else None
        if chunk is not None and newest == chunk.newest.key:
            path = self._context.scratch / "alert.jpg"
            path.write_bytes(encode_jpeg(chunk.images[-1], self._params.max_edge_px, _IMAGE_BYTES))
            title = f"Alert {self.count}: {fired.rule.condition}"
            image = self._context.save(path, f"alerts/alert-{self.count:04d}.jpg", "image/jpeg", title=title)
        self._context.alert(
            SessionAlert(
                run_id=self._context.run_id,
                alert=self.count,
                rule=fired.rule.name,
                condition=fired.rule.condition,
                chunk=fired.text.chunk,
                confidence=fired.confidence,
                text=fired.text.text,
                source=fired.text.source,
                frames=list(fired.frames),
                image=image,
            )
        )
