"""What the work inside a stage asks of the world, whatever it trains or draws."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol


class Desk(Protocol):
    """A part of ``Context``: room to work, word of how far it is, and what is left for the next run and stages."""

    @property
    def scratch(self) -> Path:
        """Empty folder of this run."""

    def progress(self, fraction: float, message: str = "") -> None:
        """Say how far it is; raises ``Stopped`` where the job was asked to stop."""

    def checkpoint(self, name: str) -> Path | None:
        """Fetch what an earlier run kept, or None."""

    def keep(self, path: Path, name: str) -> None:
        """Keep a file for the next run and the next stages."""
