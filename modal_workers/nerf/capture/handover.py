"""What the next stages get: ZIPs whose bytes depend on nothing but what is in them."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

HANDOVER: Final = "capture.zip"
INDEX: Final = "capture.json"
#: The first moment that a ZIP can tell of.
_TIME: Final = (1980, 1, 1, 0, 0, 0)


def write_zip(path: Path, files: Sequence[tuple[str, Path]]) -> None:
    """Put files into a ZIP, stored, by the given names and in the given order; the file appears when it is whole."""
    growing = path.with_name(path.name + ".growing")
    with zipfile.ZipFile(growing, "w", zipfile.ZIP_STORED) as archive:
        for name, file in files:
            info = zipfile.ZipInfo(name, _TIME)
            info.external_attr = 0o100644 << 16
            with archive.open(info, "w") as target, file.open("rb") as source:
                while chunk := source.read(1 << 20):
                    target.write(chunk)
    growing.replace(path)


def read_index(path: Path) -> dict[str, Any]:
    """Read ``capture.json`` of a hand-over."""
    with zipfile.ZipFile(path) as archive:
        found: dict[str, Any] = json.loads(archive.read(INDEX))
        return found
