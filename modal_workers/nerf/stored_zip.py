"""Uncompressed ZIPs whose bytes depend on their content only: between the stages and in the result."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final

#: Earliest time of the ZIP format.
_TIME: Final = (1980, 1, 1, 0, 0, 0)


def write_zip(path: Path, entries: Iterable[tuple[str, bytes | Path]]) -> None:
    """Write bytes and files into an uncompressed ZIP; the file appears when it is complete."""
    partial = path.with_name(path.name + ".part")
    with zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive:
        for name, content in entries:
            entry = zipfile.ZipInfo(name, _TIME)
            entry.external_attr = 0o100644 << 16
            if isinstance(content, bytes):
                archive.writestr(entry, content)
            else:
                with archive.open(entry, "w") as target, content.open("rb") as source:
                    shutil.copyfileobj(source, target, 1 << 20)
    partial.replace(path)
