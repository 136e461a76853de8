"""Uploaded sources, a file on disk each, and the bytecode that containers have compiled from them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from importlib.util import cache_from_source
from pathlib import Path


class UploadedFiles:
    """Files by their SHA-256; a container gets hard links, so that their times stay those of the bytecode."""

    def __init__(self, folder: Path) -> None:
        """Store in a folder, which is created with the first file."""
        self._folder = folder
        self._known: set[str] = set()

    def __contains__(self, sha256: str) -> bool:
        return sha256 in self._known

    def put(self, sha256: str, body: bytes) -> None:
        """Store a file."""
        self._folder.mkdir(exist_ok=True)
        if sha256 not in self._known:
            (self._folder / sha256).write_bytes(body)
            self._known.add(sha256)

    def lay_out(self, placed: Iterable[tuple[Path, str]]) -> None:
        """Put stored files at paths, each with its bytecode where a container has compiled it already."""
        made: set[Path] = set()
        for path, sha256 in placed:
            self._link(self._folder / sha256, path, made)
            if (compiled := self._bytecode(sha256)).exists():
                self._link(compiled, Path(cache_from_source(path)), made)

    def keep_bytecode(self, placed: Iterable[tuple[Path, str]]) -> None:
        """Store the bytecode of files that a container has compiled."""
        for path, sha256 in placed:
            if path.suffix == ".py" and not (stored := self._bytecode(sha256)).exists():
                with contextlib.suppress(FileNotFoundError):
                    Path(cache_from_source(path)).replace(stored)

    def _bytecode(self, sha256: str) -> Path:
        return self._folder / f"{sha256}.pyc"

    @staticmethod
    def _link(stored: Path, path: Path, made: set[Path]) -> None:
        if path.parent not in made:
            path.parent.mkdir(parents=True, exist_ok=True)
            made.add(path.parent)
        os.link(stored, path)
