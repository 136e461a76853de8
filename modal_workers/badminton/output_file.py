"""A file that the job hands out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class OutputFile:
    """A file, the name of its artifact, and what a reader is told about it."""

    path: Path
    name: str
    media_type: str
    title: str
    #: Of a table: its columns with their units.
    units: Mapping[str, str] = field(default_factory=dict)
