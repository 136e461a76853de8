"""ZIPs between the stages and in the result: stored, and their bytes depend on nothing but what is in them."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final

#: The first moment that a ZIP can tell of.
_TIME: Final = (1980, 1, 1, 0, 0, 0)


def write_zip(path: Path, entries: Iterable[tuple[str, bytes | Path]]) -> None:
    """Put bytes and files into a ZIP, not compressed, as they come; the file appears when it is whole."""
    growing = path.with_name(path.name + ".growing")
    with zipfile.ZipFile(growing, "w", zipfile.ZIP_STORED) as archive:
        for name, content in entries:
            entry = zipfile.ZipInfo(name, _TIME)
            entry.external_attr = 0o100644 << 16
            if isinstance(content, bytes):
                archive.writestr(entry, content)
            else:
                with archive.open(entry, "w") as target, content.open("rb") as source:
                    shutil.copyfileobj(source, target, 1 << 20)
    growing.replace(path)
