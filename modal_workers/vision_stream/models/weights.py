"""Places of a model's weights: in the package, in the operator's folder, or downloaded there where that is allowed."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from huggingface_hub import snapshot_download
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError
from huggingface_hub.utils.tqdm import tqdm

from contracts.errors import ErrorCode, SaccadeError

#: Gets what is being done and how much of it, 0 to 1: ("loading weights", 0.62).
OnProgress = Callable[[str, float], None]
TINY: Final = "tiny"
_TINY_FOLDER: Final = Path(__file__).with_name("tiny")
_HUB_NAME: Final = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
#: Files of a model that are used: no pickles, and no weights of other frameworks.
_FILES: Final = ("*.json", "*.jinja", "*.safetensors", "tokenizer.model")
#: Groups of files of which each needs one.
_NEEDED: Final = (
    ("config.json",),
    ("tokenizer.json",),
    ("preprocessor_config.json", "processor_config.json"),
    ("model.safetensors", "model.safetensors.index.json"),
)


def find_weights(
    name: str, *, weights_folder: Path | None, download: bool, token: str | None, on_progress: OnProgress
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
    if weights_folder is not None and (folder / "config.json").is_file():
        return _complete(folder, f"remove {folder} and fetch the model again")
    if not download:
        return _from_hub_cache(name, folder)
    return _complete(_download(name, folder if weights_folder else None, token, on_progress), "fetch the model again")


def _from_hub_cache(name: str, folder: Path) -> Path:
    hint = f"put the model's files into {folder}, or set VISION_DOWNLOAD=true to have them downloaded"
    try:
        return _complete(Path(snapshot_download(name, local_files_only=True)), hint)
    except LocalEntryNotFoundError:
        raise _invalid(f"the weights of {name} are not on this machine", hint) from None


def _download(name: str, folder: Path | None, token: str | None, on_progress: OnProgress) -> Path:
    told = [-1]

    class _Bytes(tqdm):
        """Bytes of all files, passed on instead of drawn."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **{**kwargs, "disable": False, "file": _Nowhere()})  # type: ignore[no-untyped-call]

        def update(self, n: float | None = 1) -> bool | None:
            drawn: bool | None = super().update(n)
            if self.unit == "B" and self.total and (percent := int(100 * self.n / self.total)) != told[0]:
                told[0] = percent
                on_progress("downloading weights", min(1.0, percent / 100))
            return drawn

    try:
        return Path(
            snapshot_download(name, local_dir=folder, token=token, allow_patterns=list(_FILES), tqdm_class=_Bytes)
        )
    except GatedRepoError:
        raise _invalid(
            f"the model {name} is given to those only who accepted its licence",
            "accept it on the model's page, and set HF_TOKEN to a token of that account",
        ) from None
    except RepositoryNotFoundError:
        raise _invalid(
            f"there is no model {name}, or the token may not read it", "check the name and HF_TOKEN"
        ) from None
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise _invalid(
            f"the model {name} could not be downloaded: {type(error).__name__}",
            "check the connection and the disk, then try again",
        ) from error


class _Nowhere:
    """File of a progress bar that is not drawn."""

    def write(self, text: str) -> int:
        return len(text)

    def flush(self) -> None:
        pass


def _complete(folder: Path, hint: str) -> Path:
    if not folder.is_dir():
        raise _invalid(f"the folder {folder} is missing", hint)
    for group in _NEEDED:
        if not any((folder / name).is_file() for name in group):
            raise _invalid(f"the folder {folder} has no {' or '.join(group)}", hint)
    return folder


def _invalid(message: str, hint: str) -> SaccadeError:
    return SaccadeError(
        ErrorCode.MODEL_FILE_INVALID, f"{message[0].upper()}{message[1:]}.", hint=f"{hint[0].upper()}{hint[1:]}."
    )
