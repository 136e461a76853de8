"""Files of a folder that are ready to be uploaded: complete, unchanged for a while, and neither hidden nor results."""

from __future__ import annotations

import mimetypes
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

#: Marks a folder of results: what is in and below it is never uploaded.
RESULTS_MARK: Final = ".saccade-results"
#: Ends of the names that programs give files which they still write.
_PARTIAL: Final = (
    ".part", ".partial", ".crdownload", ".download", ".opdownload", ".tmp", ".temp", ".filepart", ".aria2", ".swp", "~",
)  # fmt: skip
#: Types that some systems' tables lack.
_SUFFIXES: Final = frozenset({".heic", ".heif", ".hif", ".webp", ".avif", ".mkv", ".zip", ".mts", ".m2ts", ".insv"})


@dataclass(frozen=True)
class FoundFile:
    """A file in its present version; ``path`` is relative to the folder, with slashes."""

    path: str
    size: int
    mtime_ns: int


class FolderScan:
    """Finds the files of a folder; a file is ready when it has not changed for ``settle_s``."""

    def __init__(
        self, folder: Path, *, recursive: bool, patterns: Sequence[str], excluded: Sequence[Path], settle_s: float
    ) -> None:
        """Look also into subfolders if ``recursive``; never into ``excluded`` folders."""
        self._folder, self._recursive, self._settle_s = folder, recursive, settle_s
        self._patterns = [pattern.casefold() for pattern in patterns]
        self._excluded = {path.resolve() for path in excluded}
        #: When each version of a file was seen first, by a clock that only goes forward.
        self._since_s: dict[FoundFile, float] = {}

    def ready(self, now_s: float) -> list[FoundFile]:
        """Return the files that are ready, the oldest first; call it again and again.

        Raises:
            OSError: the folder cannot be read.
        """
        found = list(self._files())
        self._since_s = {file: self._since_s.get(file, now_s) for file in found}
        ready = [file for file in found if file.size and now_s - self._since_s[file] >= self._settle_s]
        return sorted(ready, key=lambda file: (file.mtime_ns, file.path))

    @property
    def file_count(self) -> int:
        """Return the number of non-empty files of the last scan, ready or not."""
        return sum(file.size > 0 for file in self._since_s)

    def version(self, path: str) -> FoundFile | None:
        """Return a file as it is now; None if it is no file any more."""
        try:
            facts = (self._folder / path).stat()
        except OSError:
            return None
        return FoundFile(path, facts.st_size, facts.st_mtime_ns)

    def _files(self) -> Iterator[FoundFile]:
        pending = [self._folder]
        while pending:
            folder = pending.pop()
            try:
                entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
            except OSError:
                if folder == self._folder:
                    raise
                continue  # it was removed meanwhile, or is not ours to read
            if any(entry.name == RESULTS_MARK for entry in entries):
                continue
            for entry in entries:
                if _is_unfinished(entry.name):
                    continue
                path = Path(entry.path)
                try:
                    # Links to folders may lead round in a circle.
                    if entry.is_dir(follow_symlinks=False):
                        if self._recursive and path.resolve() not in self._excluded:
                            pending.append(path)
                    elif entry.is_file() and self._is_wanted(entry.name):
                        facts = entry.stat()
                        name = path.relative_to(self._folder).as_posix()
                        yield FoundFile(name, facts.st_size, facts.st_mtime_ns)
                except OSError:
                    continue  # it was removed meanwhile

    def _is_wanted(self, name: str) -> bool:
        if self._patterns:
            return any(fnmatchcase(name.casefold(), pattern) for pattern in self._patterns)
        kind = (mimetypes.guess_type(name)[0] or "").partition("/")[0]
        return kind in ("video", "image") or Path(name).suffix.lower() in _SUFFIXES


def _is_unfinished(name: str) -> bool:
    """Return whether a name is hidden, or one that programs give files which they still write."""
    return name.startswith((".", "~$")) or name.lower().endswith(_PARTIAL)
