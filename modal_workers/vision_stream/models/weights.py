"""Places of a model's weights: in the package, in the operator's folder, or downloaded there where that is allowed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Final

from huggingface_hub import snapshot_download
from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError, RepositoryNotFoundError

from contracts.errors import ErrorCode, SaccadeError
from modal_workers.vision_stream.models.weights_download import (
    OnProgress,
    download,
    download_into_cache,
    reason_of,
    was_interrupted,
)

__all__ = ["OnProgress", "find_weights"]

TINY: Final = "tiny"
_TINY_FOLDER: Final = Path(__file__).with_name("tiny")
_HUB_NAME: Final = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
#: All weights, or the names of the files that have them.
_WEIGHTS: Final = "model.safetensors"
_INDEX: Final = "model.safetensors.index.json"
#: Groups of files of which each needs one.
_NEEDED: Final = (
    ("config.json",),
    ("tokenizer.json",),
    ("preprocessor_config.json", "processor_config.json"),
    (_WEIGHTS, _INDEX),
)


def find_weights(
    name: str, *, weights_folder: Path | None, may_download: bool, token: str | None, on_progress: OnProgress
) -> Path:
    """Return the folder of a model: ``tiny``, a folder's path, or a name on the hub.

    Raises:
        SaccadeError: MODEL_FILE_INVALID, with what is missing and how it is installed.
    """
    if name == TINY:
        return _complete(_TINY_FOLDER, "train it by python -m simulators.watch.training.train, or reinstall Saccade")
    if Path(name).is_absolute():
        return _complete(Path(name), "correct the path of the model, or put its files there")
    if not _HUB_NAME.fullmatch(name):
        raise _invalid(
            f"the name {name!r} is no model's", "give tiny, a folder, or a name such as google/gemma-3-4b-it"
        )
    folder = (weights_folder or Path()) / name
    if weights_folder is not None and _is_there(folder):
        return _complete(folder, f"remove {folder} and fetch the model again")
    if not may_download:
        hint = f"put the model's files into {folder}, or set VISION_DOWNLOAD=true to have them downloaded"
        if (folder / "config.json").is_file():
            hint = f"set VISION_DOWNLOAD=true: a download into {folder} was interrupted, and goes on then"
        return _from_hub_cache(name, hint)
    return _complete(_download(name, folder if weights_folder else None, token, on_progress), "fetch the model again")


def _from_hub_cache(name: str, hint: str) -> Path:
    try:
        return _complete(Path(snapshot_download(name, local_files_only=True)), hint)
    except LocalEntryNotFoundError:
        raise _invalid(f"the weights of {name} are not on this machine", hint) from None


def _download(name: str, folder: Path | None, token: str | None, on_progress: OnProgress) -> Path:
    """Return the folder of a model that was downloaded.

    Raises:
        SaccadeError: MODEL_FILE_INVALID.
    """
    try:
        if folder is None:
            return download_into_cache(name, token, on_progress)
        download(name, folder, token, on_progress, lambda: _is_there(folder))
    except GatedRepoError:
        raise _invalid(
            f"the model {name} is given to those only who accepted its licence",
            "accept it on the model's page, and store a token of that account by `hf auth login` where workers run",
        ) from None
    except RepositoryNotFoundError:
        raise _invalid(
            f"there is no model {name}, or the token may not read it",
            "check the name, and the token that `hf auth login` stored where workers run",
        ) from None
    except OSError as error:
        raise _invalid(
            f"the model {name} could not be downloaded: {reason_of(error)}",
            "check the connection and the disk, then try again: files that are complete are not loaded again",
        ) from error
    return folder


def _is_there(folder: Path) -> bool:
    """Return whether a folder has a model, put there by hand or by a download that has ended."""
    return (folder / "config.json").is_file() and not was_interrupted(folder, lacks_files=bool(_lacking(folder)))


def _complete(folder: Path, hint: str) -> Path:
    if not folder.is_dir():
        raise _invalid(f"the folder {folder} is missing", hint)
    if lacking := _lacking(folder):
        raise _invalid(f"the folder {folder} has no {lacking}", hint)
    return folder


def _lacking(folder: Path) -> str:
    """Return the names of a file that a model needs and a folder has not; an empty text if it has all."""
    for group in _NEEDED:
        if not any((folder / name).is_file() for name in group):
            return " or ".join(group)
    if (folder / _WEIGHTS).is_file():
        return ""
    try:
        parts = set(json.loads((folder / _INDEX).read_bytes())["weight_map"].values())
        return next((name for name in sorted(parts) if not (folder / name).is_file()), "")
    except (ValueError, KeyError, TypeError, AttributeError):
        return ""  # who loads it says what is wrong with it


def _invalid(message: str, hint: str) -> SaccadeError:
    return SaccadeError(
        ErrorCode.MODEL_FILE_INVALID, f"{message[0].upper()}{message[1:]}.", hint=f"{hint[0].upper()}{hint[1:]}."
    )
