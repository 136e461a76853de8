"""Download of a model's weights into the operator's folder: by one process at a time; an interrupted one goes on.

The hub's own locks are of single files: a process that has waited for one deletes the file and loads it again, while
another one opens it already.
"""

from __future__ import annotations

import errno
import fcntl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final

from huggingface_hub import snapshot_download
from huggingface_hub.errors import DryRunError, HfHubHTTPError
from huggingface_hub.utils.tqdm import tqdm

#: Gets what is being done and how much of it, 0 to 1: ("loading weights", 0.62).
OnProgress = Callable[[str, float], None]
#: Files of a model that are used: no pickles, and no weights of other frameworks.
_FILES: Final = ("*.json", "*.jinja", "*.safetensors", "tokenizer.model")
#: File in the folder of a download, which is locked while it runs; it says ``_COMPLETE`` when all files are there.
_STATE: Final = ".saccade-download"
_COMPLETE: Final = "complete"
#: Where the hub keeps what it knows of a folder, and files of which it has a part.
_OF_HUB: Final = Path(".cache/huggingface")
_LOOK_S: Final = 0.5
_NO_LOCKS: Final = frozenset({errno.ENOTSUP, errno.ENOSYS, errno.ENOLCK})


def was_interrupted(folder: Path, *, lacks_files: bool) -> bool:
    """Return whether a download into a folder has begun and has not ended.

    ``lacks_files`` tells it of a folder that was downloaded before this was noted.
    """
    try:
        # Twice where there are no locks and two have downloaded.
        return not (folder / _STATE).read_text().startswith(_COMPLETE)
    except FileNotFoundError:
        return lacks_files and (folder / _OF_HUB).is_dir()


def download(
    name: str, folder: Path, token: str | None, on_progress: OnProgress, is_there: Callable[[], bool]
) -> None:  # fmt: skip
    """Download a model's files into a folder, unless ``is_there`` after another process has.

    Files that an earlier download has completed are not loaded again.

    Raises:
        OSError: as ``huggingface_hub.snapshot_download``; a file is missing at the end.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder / _STATE, lambda: on_progress("waiting for another download", 0.0)) as (state, is_alone):
        if is_there():
            return
        state.truncate(0)
        for part in (folder / _OF_HUB).rglob("*.incomplete") if is_alone else ():
            part.unlink(missing_ok=True)  # of a process that died: it would stay for good
        wanted: dict[str, Any] = {"local_dir": folder, "token": token, "allow_patterns": list(_FILES)}
        # First what there is: without a connection, a folder that has any file counts as downloaded.
        try:
            files = snapshot_download(name, dry_run=True, **wanted)
        except DryRunError as error:
            raise error.__cause__ if isinstance(error.__cause__, HfHubHTTPError) else error from error.__cause__
        if files:
            snapshot_download(name, revision=files[0].commit_hash, tqdm_class=_progress_bar(on_progress), **wanted)
        for file in files:
            path = folder / file.filename
            if not path.is_file() or path.stat().st_size != (file.file_size or path.stat().st_size):
                raise FileNotFoundError(errno.ENOENT, "it is not complete", str(path))
        state.write(_COMPLETE)


def download_into_cache(name: str, token: str | None, on_progress: OnProgress) -> Path:
    """Download a model's files into the hub's cache, and return their folder there.

    Raises:
        OSError: as ``huggingface_hub.snapshot_download``.
    """
    bar = _progress_bar(on_progress)
    return Path(snapshot_download(name, token=token, allow_patterns=list(_FILES), tqdm_class=bar))


def reason_of(error: OSError) -> str:
    """Return the name of what a download failed by."""
    return type(error.__cause__ if isinstance(error, DryRunError) and error.__cause__ else error).__name__


@contextmanager
def _locked(path: Path, on_wait: Callable[[], None]) -> Iterator[tuple[IO[str], bool]]:
    """Open a file that only one process has at a time, if its folder has locks, and return whether it has.

    ``on_wait`` is called while this process waits.
    """
    is_alone = True
    with path.open("a+") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                on_wait()
                time.sleep(_LOOK_S)
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    raise
                is_alone = False
                break
            else:
                break
        yield file, is_alone


def _progress_bar(on_progress: OnProgress) -> type[tqdm]:
    """Return a class of progress bars that pass on what they would draw."""
    told = [-1]

    class _Bytes(tqdm):
        """Bytes of all files."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **{**kwargs, "disable": False, "file": _Nowhere()})  # type: ignore[no-untyped-call]

        def update(self, n: float | None = 1) -> bool | None:
            drawn: bool | None = super().update(n)
            if self.unit == "B" and self.total and (percent := int(100 * self.n / self.total)) != told[0]:
                told[0] = percent
                on_progress("downloading weights", min(1.0, percent / 100))
            return drawn

    return _Bytes


class _Nowhere:
    """File of a progress bar that is not drawn."""

    def write(self, text: str) -> int:
        return len(text)

    def flush(self) -> None:
        pass
