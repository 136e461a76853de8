"""What the next stages get: the photos, and an index of them."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any, Final

ARCHIVE: Final = "capture.zip"
INDEX: Final = "capture.json"


def read_index(path: Path) -> dict[str, Any]:
    """Read ``capture.json`` of a hand-over."""
    with zipfile.ZipFile(path) as archive:
        found: dict[str, Any] = json.loads(archive.read(INDEX))
        return found
