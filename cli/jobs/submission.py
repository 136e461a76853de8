"""Submission of a job: parameters, files for the workload's inputs, uploads."""

from __future__ import annotations

import hashlib
import json
import mimetypes
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from saccade_client import Client, ClientError
from saccade_client.upload import sha256_of

from cli.failure import USAGE, Failure
from cli.output import print_note
from cli.progress_bar import format_size, progress_bar
from cli.settings import CommandSettings
from contracts.ids import is_id

#: Photo types that some systems do not know.
_PHOTO_SUFFIXES: Final = frozenset({".heic", ".heif", ".webp", ".avif"})


def parse_params(pairs: Sequence[str]) -> dict[str, Any]:
    """Parse ``key=value`` pairs; a value that is valid JSON (a number, true, a list) is parsed as JSON.

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
    _check_finite(params)
    return params


def _check_finite(params: Mapping[str, Any]) -> None:
    """Reject numbers that JSON cannot write, although Python reads them.

    Raises:
        Failure: for the first parameter that has one.
    """
    for name, value in params.items():
        try:
            json.dumps(value, allow_nan=False)
        except ValueError as error:
            hint = "Numbers must be finite."
            raise Failure(f"{name} is no JSON value ({error}).", code="usage", hint=hint, exit_code=USAGE) from error


def read_params(text: str) -> dict[str, Any]:
    """Parse parameters as one JSON object; ``@name`` reads the file of this name.

    Raises:
        Failure: the file does not exist, or is not a JSON object.
    """
    if text.startswith("@"):
        path = Path(text[1:])
        if not path.is_file():
            raise Failure(f"{path} does not exist.", code="no_such_file", hint="Name a file with a JSON object.")
        text = path.read_text(errors="replace")
    try:
        params = json.loads(text)
    except ValueError as error:
        raise Failure(f"--params is not JSON ({error}).", code="usage", exit_code=USAGE) from error
    if not isinstance(params, dict):
        raise Failure("--params is not a JSON object.", code="usage", exit_code=USAGE)
    _check_finite(params)
    return params


def find_workload(client: Client, name: str) -> dict[str, Any]:
    """Return a workload of the server by its name.

    Raises:
        Failure: the server has no such workload.
    """
    workloads = {str(workload["name"]): workload for workload in client.workloads()}
    if name not in workloads:
        known = ", ".join(sorted(workloads)) or "none"
        raise Failure(f"There is no workload {name}.", code="unknown_workload", hint=f"The server's workloads: {known}")
    return workloads[name]


def check_submitted(workload: dict[str, Any]) -> None:
    """Reject a workload that is no job.

    Raises:
        Failure: it is a live session, which takes no files.
    """
    if workload.get("kind") == "session":
        name = workload["name"]
        raise Failure(
            f"{name} is a live session: it takes frames while they are recorded, not files.",
            code="workload_is_session",
            hint=f"Open one with: saccade sessions open {name}",
            exit_code=USAGE,
        )


def check_opened(workload: dict[str, Any]) -> None:
    """Reject a workload that is no live session.

    Raises:
        Failure: it is a job, which takes files.
    """
    if workload.get("kind") != "session":
        name = workload["name"]
        takes = " ".join(f"{field['name'].upper()}_FILE" for field in _fitting_inputs(workload, []) if field["minimum"])
        raise Failure(
            f"{name} is a job on files, not a live session.",
            code="workload_is_job",
            hint=f"Submit it with: saccade submit {name} {takes or 'FILES'} --watch",
            exit_code=USAGE,
        )


def is_available(workload: dict[str, Any]) -> bool:
    """Return whether the server's workers have what a workload needs; older servers do not say."""
    return bool(workload.get("available", True))


def assign_files(workload: dict[str, Any], files: Sequence[str]) -> dict[str, list[str]]:
    """Assign files to a workload's inputs, in order: each its minimum, then the rest to the first that take more.

    Raises:
        Failure: there are too few files or too many.
    """
    inputs = _fitting_inputs(workload, files)
    counts = {field["name"]: int(field.get("minimum", 1)) for field in inputs}
    spare = len(files) - sum(counts.values())
    for field in inputs:
        more = min(max(spare, 0), int(field.get("maximum", 1)) - counts[field["name"]])
        counts[field["name"]] += more
        spare -= more
    if spare:
        wanted = ", ".join(f"{field['name']} ({field['title']})" for field in inputs)
        raise Failure(
            f"{len(files)} files do not fit the inputs of {workload['name']}.",
            code="usage",
            hint=f"Its inputs, in order: {wanted}",
            exit_code=USAGE,
        )
    remaining = iter(files)
    return {name: [next(remaining) for _ in range(count)] for name, count in counts.items() if count}


def _fitting_inputs(workload: dict[str, Any], files: Sequence[str]) -> list[dict[str, Any]]:
    """Return a workload's inputs; of alternative inputs, the one that takes files of this type."""
    inputs: list[dict[str, Any]] = list(workload["inputs"])
    for alternatives in workload.get("one_of", ()):
        options = [field for field in inputs if field["name"] in alternatives]
        media = _media_kind(files[0]) if files else ""
        chosen = next((field for field in options if field["media"] == media), options[0])
        inputs = [field for field in inputs if field is chosen or field not in options]
    return inputs


def _media_kind(name: str) -> str:
    """Guess the kind of media (video, image, archive) from a file's name, or a URL's."""
    name = urlsplit(name).path if _is_url(name) else name
    suffix = Path(name).suffix.lower()
    kind = (mimetypes.guess_type(name)[0] or "").partition("/")[0]
    return "archive" if suffix == ".zip" else "image" if suffix in _PHOTO_SUFFIXES else kind


def check_files(files: Sequence[str]) -> None:
    """Check that all files exist and are not empty, before the first upload.

    Raises:
        Failure: for the first that does not.
    """
    for name in files:
        path = Path(name)
        if is_id(name, "upl") or _is_url(name):
            continue
        if not path.is_file():
            problem = "is a folder" if path.is_dir() else "does not exist"
            raise Failure(f"{name} {problem}.", code="no_such_file", hint="Name a file, a URL, or the id of an upload.")
        if path.stat().st_size == 0:
            raise Failure(f"{name} is empty.", code="upload_empty", hint="Check that it was written completely.")
        if shown := undecodable(path.name):
            raise Failure(f"The name of {shown} is not UTF-8.", code="file_name_not_utf8", hint="Rename the file.")


def undecodable(name: str) -> str:
    """Return a file's name with the bytes that are not UTF-8 written out; empty if there are none."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return name.encode(errors="backslashreplace").decode()
    return ""


def _is_url(name: str) -> bool:
    return name.lower().startswith(("http://", "https://"))


def upload_file(client: Client, name: str, *, silent: bool = False, key: str | None = None, **origin: Any) -> str:
    """Upload a file, or have a URL fetched, with a progress bar; return the upload's id, or the one that is given.

    The same ``key`` and file are one upload. ``origin`` is what is said about the file: ``metadata``, ``from_job``.

    Raises:
        ClientError: the server refused the file.
    """
    if is_id(name, "upl"):
        return name
    path = Path(urlsplit(name).path or name) if _is_url(name) else Path(name)
    with progress_bar(f"{'Fetching' if _is_url(name) else 'Uploading'} {path.name}", silent=silent) as update:

        def on_progress(done: int, total: int) -> None:
            if _is_url(name):
                update(done / total if total else 0.0, fetch_text(done, total))
            else:
                update(done / total if total else 1.0, upload_text(done, total))

        try:
            if _is_url(name):
                upload = client.upload_url(name, on_progress, **origin, idempotency_key=key)
            else:
                folder = CommandSettings().uploads_dir
                upload = client.upload(path, on_progress, state_dir=folder, **origin, idempotency_key=key)
        except ClientError as error:
            # Name the file: there may be several.
            error.message = f"{path.name}: {error.message}"
            raise
    return upload.id


def upload_text(done: int, total: int) -> str:
    """Return the text beside an upload's bar: when all bytes are sent, the server decodes and checks the file."""
    return format_size(total) if done < total else f"{format_size(total)} sent; the server checks it"


def fetch_text(done: int, total: int) -> str:
    """Return the text beside the bar of a URL; ``total`` is 0 if its server has not answered, or announces no size."""
    if not done:
        return "waiting for its server"
    if not total:
        return f"{format_size(done)} received"
    return format_size(total) if done < total else f"{format_size(total)} received; the server checks it"


def check_job(
    client: Client, workload: dict[str, Any], files: Sequence[str], params: Mapping[str, Any], **options: Any
) -> None:
    """Check all of a job that can be checked before the first byte is uploaded.

    Raises:
        Failure, ClientError: workload, files, parameters, ids or options are refused.
    """
    check_submitted(workload)
    assigned = assign_files(workload, files)
    check_files(files)
    uploaded = {input_name: [name for name in names if is_id(name, "upl")] for input_name, names in assigned.items()}
    inputs = {input_name: ids for input_name, ids in uploaded.items() if ids}
    client.check(str(workload["name"]), params, inputs=inputs, **options)


def duplicate_notes(files: Sequence[str]) -> list[str]:
    """Return a note for each group of files with the same content; only files of equal size are read."""
    by_size: dict[int, list[str]] = defaultdict(list)
    by_content: dict[str, list[str]] = defaultdict(list)
    for name in files:
        if is_id(name, "upl") or _is_url(name):
            by_content[f"{'URL' if _is_url(name) else 'upload'} {name}"].append(name)
        else:
            by_size[Path(name).stat().st_size].append(name)
    for names in by_size.values():
        if len(names) > 1:
            for name in names:
                by_content[f"SHA-256 {sha256_of(Path(name))[:12]}…"].append(name)
    return [
        f"{' and '.join(names)} have the same content ({content})."
        for content, names in by_content.items()
        if len(names) > 1
    ]


def upload_inputs(
    client: Client, workload: dict[str, Any], files: Sequence[str], *, silent: bool = False, key: str | None = None
) -> dict[str, str | list[str]]:
    """Upload the files of a job and return its inputs as the API takes them.

    With the ``key`` of an earlier request for the job, the same files are the uploads of that request: with others it
    would be another request, which the server refuses.

    Raises:
        Failure, ClientError: a file is missing or was refused.
    """
    assigned = assign_files(workload, files)
    check_files(files)
    for note in duplicate_notes(files):
        print_note(f"  note: {note}")
    lists = {field["name"] for field in workload["inputs"] if int(field.get("maximum", 1)) > 1}
    inputs: dict[str, str | list[str]] = {}
    for input_name, names in assigned.items():
        keys = [_file_key(key, f"{input_name} {place}", name) for place, name in enumerate(names)]
        ids = [upload_file(client, name, silent=silent, key=own) for name, own in zip(names, keys, strict=True)]
        inputs[input_name] = ids if input_name in lists else ids[0]
    return inputs


def _file_key(key: str | None, place: str, name: str) -> str | None:
    """Return the key of one file's upload: of its place, name and content, so that a changed file is another upload."""
    if key is None or is_id(name, "upl"):
        return None
    content = name if _is_url(name) else f"{Path(name).name} {sha256_of(Path(name))}"
    return hashlib.sha256(f"{key} {place} {content}".encode()).hexdigest()[:40]
