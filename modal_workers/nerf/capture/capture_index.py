"""The archive that capture hands to the later stages: the photos and their index."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any, Final

ARCHIVE: Final = "capture.zip"
INDEX: Final = "capture.json"


def read_index(path: Path) -> dict[str, Any]:
    """Return ``capture.json`` of the archive."""
    with zipfile.ZipFile(path) as archive:
        index: dict[str, Any] = json.loads(archive.read(INDEX))
        return index
