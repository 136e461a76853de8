"""Brings files to the inputs that a workload names, in order, and submits the job."""

from __future__ import annotations

import json
import mimetypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from saccade import Client, ClientError

from cli.failure import USAGE, Failure
from cli.progress_bar import format_size, progress_bar
from cli.settings import CommandSettings
from contracts.ids import is_id

#: Photos whose type not every system knows.
_PHOTO_SUFFIXES: Final = frozenset({".heic", ".heif", ".webp", ".avif"})


def parse_params(pairs: Sequence[str]) -> dict[str, Any]:
    """Read ``key=value`` pairs; a value that is JSON (a number, true, a list) is taken as such.

    Raises:
        Failure: a pair has no ``=``.
    """
    params: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not (equals and name):
            raise Failure(f"--param {pair} is not key=value.", code="usage", exit_code=USAGE)
        try:
            params[name] = json.loads(value)
        except ValueError:
            params[name] = value
    return params


def read_params(text: str) -> dict[str, Any]:
    """Read parameters as one JSON object; ``@name`` reads the file of this name.

    Raises:
        Failure: the file is not there, or it is no JSON object.
    """
    if text.startswith("@"):
        path = Path(text[1:])
        if not path.is_file():
            raise Failure(f"{path} does not exist.", code="no_such_file", hint="Name a file with a JSON object.")
        text = path.read_text(errors="replace")
    try:
        params = json.loads(text)
    except ValueError as error:
        raise Failure(f"--params is no JSON ({error}).", code="usage", exit_code=USAGE) from error
    if not isinstance(params, dict):
        raise Failure("--params is no JSON object.", code="usage", exit_code=USAGE)
    return params


def find_workload(client: Client, name: str) -> dict[str, Any]:
    """Find a workload of the server.

    Raises:
        Failure: it has none of this name.
    """
    workloads = {str(workload["name"]): workload for workload in client.workloads()}
    if name not in workloads:
        known = ", ".join(sorted(workloads)) or "none"
        raise Failure(f"There is no workload {name}.", code="unknown_workload", hint=f"The server has: {known}")
    return workloads[name]


def assign_files(workload: dict[str, Any], files: Sequence[str]) -> dict[str, list[str]]:
    """Give each input its files, in order: what it must have first, what is left over to the first that takes more.

    Raises:
        Failure: too few files or too many.
    """
    inputs = _wanted(workload, files)
    counts = {one["name"]: int(one.get("minimum", 1)) for one in inputs}
    spare = len(files) - sum(counts.values())
    for one in inputs:
        more = min(max(spare, 0), int(one.get("maximum", 1)) - counts[one["name"]])
        counts[one["name"]] += more
        spare -= more
    if spare:
        wanted = ", ".join(f"{one['name']} ({one['title']})" for one in inputs)
        raise Failure(
            f"{workload['name']} takes other files than the {len(files)} given.",
            code="usage",
            hint=f"Its inputs, in order: {wanted}",
            exit_code=USAGE,
        )
    given = iter(files)
    return {name: [next(given) for _ in range(count)] for name, count in counts.items() if count}


def _wanted(workload: dict[str, Any], files: Sequence[str]) -> list[dict[str, Any]]:
    """List the inputs that files can be for: of several of which one is given, the one that takes such files."""
    inputs: list[dict[str, Any]] = list(workload["inputs"])
    for alternatives in workload.get("one_of", ()):
        among = [one for one in inputs if one["name"] in alternatives]
        media = _media(files[0]) if files else ""
        chosen = next((one for one in among if one["media"] == media), among[0])
        inputs = [one for one in inputs if one is chosen or one not in among]
    return inputs


def _media(name: str) -> str:
    """Guess what kind of media a file is, by its name."""
    suffix = Path(name).suffix.lower()
    kind = (mimetypes.guess_type(name)[0] or "").partition("/")[0]
    return "archive" if suffix == ".zip" else "image" if suffix in _PHOTO_SUFFIXES else kind


def check_files(files: Sequence[str]) -> None:
    """Refuse what is no file before anything is sent.

    Raises:
        Failure: with the file's name.
    """
    for name in files:
        path = Path(name)
        if is_id(name, "upl"):
            continue
        if not path.is_file():
            what = "is a folder" if path.is_dir() else "does not exist"
            raise Failure(f"{name} {what}.", code="no_such_file", hint="Name a file, or the id of an upload.")
        if path.stat().st_size == 0:
            raise Failure(f"{name} is empty.", code="upload_empty", hint="Check that it was written.")


def upload_file(client: Client, name: str, *, silent: bool = False) -> str:
    """Upload a file with a progress bar and give the upload's id; an id of an upload is given back.

    Raises:
        ClientError: the server refused the file.
    """
    if is_id(name, "upl"):
        return name
    path = Path(name)
    with progress_bar(f"Uploading {path.name}", silent=silent) as update:
        try:
            upload = client.upload(
                path,
                lambda done, total: update(done / total if total else 1.0, format_size(total)),
                state_dir=CommandSettings().uploads_dir,
            )
        except ClientError as error:
            # Of several files, which?
            error.message = f"{path.name}: {error.message}"
            raise
    return upload.id


def upload_inputs(
    client: Client, workload: dict[str, Any], files: Sequence[str], *, silent: bool = False
) -> dict[str, str | list[str]]:
    """Upload the files of a job and give its inputs as the API takes them.

    Raises:
        Failure, ClientError: a file is missing or was refused.
    """
    assigned = assign_files(workload, files)
    check_files(files)
    several = {one["name"] for one in workload["inputs"] if int(one.get("maximum", 1)) > 1}
    inputs: dict[str, str | list[str]] = {}
    for input_name, names in assigned.items():
        ids = [upload_file(client, name, silent=silent) for name in names]
        inputs[input_name] = ids if input_name in several else ids[0]
    return inputs
