"""A session as its worker sees it: folded on with each of its events, and the newest texts. Pure."""

from __future__ import annotations

from collections import deque
from typing import Final

from contracts.events.session import SessionPromptRequested, SessionText
from contracts.manifest import Artifact
from contracts.session import Session, fold_stored
from modal_workers.runtime.sessions.telemetry_tail import TelemetryMessage

#: Texts that are kept.
TEXTS: Final = 32


class SessionHistory:
    """The session up to its newest event; each event is read once, however long the session gets."""

    def __init__(self, subjects: str) -> None:
        """Fold the events under ``subjects`` (``saccade.evt.<tenant>.session.<id>.*``)."""
        self._prefix = subjects.removesuffix("*")
        self.session: Session | None = None
        #: Sequence of the newest event.
        self.sequence = 0
        #: The newest texts since the last reset, oldest first.
        self.texts: deque[SessionText] = deque(maxlen=TEXTS)
        #: Number of the newest text and of the newest alert.
        self.chunk = self.alert = 0
        #: Images of the alerts; None once they are taken.
        self._images: list[Artifact] | None = []
        #: Newest described frame of each source.
        self.described: dict[str, int] = {}

    def add(self, message: TelemetryMessage) -> None:
        """Apply the next event."""
        before = self.session
        self.session = fold_stored(before, self._prefix + message.name, message.body, message.sequence)
        self.sequence = message.sequence
        if self.session is None or before is None:
            return
        if self.session.reset_sequence > before.reset_sequence:
            self.texts.clear()
        if self.session.text is not None and self.session.text is not before.text:
            self._add_text(self.session.text)
        if self.session.alert is not None:
            if self.session.alert is not before.alert:
                self._add_image(self.session.alert.image)
            self.alert = max(self.alert, self.session.alert.alert)

    def take_images(self) -> list[Artifact]:
        """Return the images of the alerts, once; those of later alerts are not kept: the run has saved them itself."""
        images, self._images = self._images or [], None
        return images

    @property
    def prompts(self) -> tuple[SessionPromptRequested, ...]:
        """Questions without an answer, oldest first."""
        return () if self.session is None else self.session.prompts

    def _add_image(self, image: Artifact | None) -> None:
        if image is not None and self._images is not None:
            self._images.append(image)

    def _add_text(self, text: SessionText) -> None:
        if text.chunk <= self.chunk:  # said again, by a run that had lost the session
            return
        self.chunk = text.chunk
        self.texts.append(text)
        if text.source is not None and text.last_seq is not None:
            self.described[text.source] = max(text.last_seq, self.described.get(text.source, -1))
