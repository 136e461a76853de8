"""Golden windows on disk: a file of events in the archive's format, and the settings that they were recorded with."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from kit.history.segments import SegmentFile
from services.whatif.child_input import stored_of
from services.whatif.window import RecordedWindow, window_of

FOLDER: Final = Path(__file__).parent


@dataclass(frozen=True)
class Golden:
    """One golden window."""

    version: str
    name: str

    @property
    def events(self) -> Path:
        return FOLDER / self.version / f"{self.name}.ndjson.zst"

    @property
    def settings(self) -> Path:
        return FOLDER / self.version / f"{self.name}.json"

    def recorded(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.settings.read_text())
        return found

    def window(self) -> RecordedWindow:
        """Read and verify it."""
        segment = SegmentFile(self.events.read_bytes())
        segment.verify()
        return window_of(
            stored_of(segment.events()), recorded_settings=json.loads(self.settings.read_text())["settings"]
        )


def golden_windows() -> list[Golden]:
    """Return the golden windows of every version."""
    return [Golden(file.parent.name, file.name.partition(".")[0]) for file in sorted(FOLDER.glob("*/*.ndjson.zst"))]
