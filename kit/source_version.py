"""Version of the code that a process runs: a digest of its sources, because a release number names many commits."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Final

_ROOT: Final = Path(__file__).resolve().parents[1]
#: Packages that every service has in full: two services with the same ones agree about every event and request.
_COMMON: Final = ("contracts", "kit")
_DIGITS: Final = 12


@lru_cache
def source_version(packages: Iterable[str] = _COMMON, *files: str) -> str:
    """Return the first digits of a SHA-256 of the Python files of packages, and of other files, of this checkout."""
    digest = hashlib.sha256()
    sources = [path for package in packages for path in (_ROOT / package).rglob("*.py")]
    for path in sorted([*sources, *(_ROOT / name for name in files)]):
        if path.is_file():
            text = path.read_bytes()
            digest.update(f"{path.relative_to(_ROOT)} {len(text)}\n".encode() + text)
    return digest.hexdigest()[:_DIGITS]
