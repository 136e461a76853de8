"""``saccade watch``: upload what appears in a folder, and download what jobs make of it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import click
from saccade_client import Client, ClientError, Job

from cli.connection import open_client, server_options
from cli.failure import USAGE, Failure
from cli.jobs.follow import failure_of
from cli.output import display_path, print_json, print_line, print_note
from cli.progress_bar import format_size
from cli.rules.rule_options import parse_pairs
from cli.rules.rules import find_rule
from cli.uploads.folder_scan import FolderScan, FoundFile
from cli.uploads.folder_uploads import FolderUploads
from cli.uploads.path_metadata import PathMetadata
from cli.uploads.result_downloads import ResultDownloads
from cli.uploads.watch_state import WatchState

_STATE_NAME: Final = ".saccade-watch.jsonl"
#: Metadata by which the rule of --workload knows the uploads of its folder.
_WATCH_KEY: Final = "saccade_watch"
_NAME_CHARS: Final = 200
_INTERVAL_S: Final = 0.5
_IDLE_SHARE: Final = 10
#: A server that does not answer is asked again after pauses that grow.
_FIRST_PAUSE_S: Final = 1.0
_LONGEST_PAUSE_S: Final = 30.0


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--results", metavar="OUT", type=click.Path(file_okay=False, path_type=Path), help="Download results there."
)
@click.option(
    "--metadata", "-m", "pairs", multiple=True, metavar="KEY=TEXT", help="Of each upload, such as lap={stem}."
)
@click.option("--path", "pattern", metavar="PATTERN", help="Metadata from paths, such as '{driver}/lap_{lap}.mp4'.")
@click.option("--match", "patterns", multiple=True, metavar="PATTERN", help="Only files with such names: '*.mp4'.")
@click.option("--recursive", "-r", is_flag=True, help="Also files in subfolders.")
@click.option(
    "--settle",
    "settle_s",
    type=click.FloatRange(0),
    default=2.0,
    show_default=True,
    help="Upload a file when it was unchanged for so many seconds.",
)
@click.option("--rule", metavar="RULE", help="Only results of this rule's jobs.")
@click.option("--workload", help="Make a rule for this folder: each file is a job of this workload.")
@click.option("--needs", type=click.IntRange(2), help="With --workload: so many files are one job.")
@click.option(
    "--quiet", "quiet_s", type=click.FloatRange(1), help="With --workload: one job when none came for these seconds."
)
@click.option(
    "--state",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help=f"What was uploaded. [default: DIR/{_STATE_NAME}]",
)
@click.option("--once", is_flag=True, help="Upload what is there, then end.")
@server_options
def watch(
    *,
    folder: Path,
    results: Path | None,
    pairs: tuple[str, ...],
    pattern: str | None,
    patterns: tuple[str, ...],
    recursive: bool,
    settle_s: float,
    rule: str | None,
    workload: str | None,
    needs: int | None,
    quiet_s: float | None,
    state: Path | None,
    once: bool,
    url: str | None,
    as_json: bool,
) -> None:
    """Upload what appears in a folder.

    Until Ctrl-C, each file in DIR is uploaded once, also when this command is killed and started again. Rules make jobs
    of them (saccade rules); --results downloads what the jobs make.
    """
    group = {"needs": needs, "quiet_s": quiet_s}
    _check(folder, results, rule, workload, group)
    metadata = PathMetadata(parse_pairs(pairs, "--metadata"), pattern)
    excluded = [results] if results else []
    scan = FolderScan(folder, recursive=recursive, patterns=patterns, excluded=excluded, settle_s=settle_s)
    shown = _Output(as_json=as_json)
    with open_client(url) as client:
        journal = WatchState(state or folder / _STATE_NAME, client.url)
        try:
            own: dict[str, str] = {}
            if workload:
                own = {_WATCH_KEY: journal.id}
                rule_id: str | None = _own_rule(client, folder, journal.id, workload, group)
            else:
                rule_id = find_rule(client, rule).id if rule else None
            uploads = FolderUploads(client, folder, scan, journal, metadata=metadata, own=own, report=shown.file)
            downloads = (
                ResultDownloads(client, results, journal, rule_id=rule_id, report=shown.job) if results else None
            )
            if not (as_json or once):
                print_note(f"Watching {display_path(folder.resolve())}. Ctrl-C ends it.")
            _run(uploads, downloads, once=once)
        finally:
            journal.close()


def _run(uploads: FolderUploads, downloads: ResultDownloads | None, *, once: bool) -> None:
    """Upload and download until all is done (``once``), or for ever.

    Raises:
        ClientError, OSError: the server refuses, or the disk.
    """
    pause_s = 0.0
    if downloads and not once:
        downloads.start()
    try:
        while True:
            if downloads and downloads.failure:
                raise downloads.failure
            try:
                done = uploads.step(time.monotonic())
                pause_s = 0.0
            except ClientError as error:
                if once or not (error.retryable or error.status >= 500):
                    raise
                if not pause_s:
                    print_note(f"  note: {error.message} It is tried again.")
                pause_s = min(_LONGEST_PAUSE_S, max(_FIRST_PAUSE_S, 2 * pause_s))
                done = False
            if once and done:
                break
            # A look at very many files takes its time; a tenth of one core is enough.
            time.sleep(max(_INTERVAL_S, pause_s, _IDLE_SHARE * uploads.scan_s))
        if downloads:
            downloads.catch_up()
    finally:
        if downloads:
            downloads.stop()


def _check(
    folder: Path, results: Path | None, rule: str | None, workload: str | None, group: Mapping[str, Any]
) -> None:
    """Check the options that depend on each other.

    Raises:
        Failure: they contradict each other.
    """
    problem = ""
    if results is not None and folder.resolve().is_relative_to(results.resolve()):
        problem = "--results is the watched folder, or contains it: results would be uploaded again."
    elif rule and workload:
        problem = "--rule and --workload exclude each other."
    elif any(group.values()) and not workload:
        problem = "--needs and --quiet belong to --workload."
    elif all(group.values()):
        problem = "--needs and --quiet exclude each other."
    if problem:
        raise Failure(problem, code="usage", hint="--help shows the options.", exit_code=USAGE)


def _own_rule(client: Client, folder: Path, watch_id: str, workload: str, group: Mapping[str, Any]) -> str:
    """Return the id of the rule for a folder's uploads, made or changed as wanted."""
    wanted = {**group, "order": "filename"} if any(group.values()) else None
    found = next((rule for rule in client.rules.all() if _of_watch(rule.match, watch_id)), None)
    if found is None:
        name = f"saccade watch {folder.resolve().name}"[:_NAME_CHARS]
        return client.rules.create(name, workload, match={"metadata": {_WATCH_KEY: watch_id}}, group=wanted).id
    if found.workload == workload and _same_group(found.group, wanted):
        return found.id
    return client.rules.change(found.id, workload=workload, match={"metadata": {_WATCH_KEY: watch_id}}, group=wanted).id


def _of_watch(match: Mapping[str, Any], watch_id: str) -> bool:
    return (match.get("metadata") or {}).get(_WATCH_KEY) == watch_id


def _same_group(known: Mapping[str, Any] | None, wanted: Mapping[str, Any] | None) -> bool:
    if known is None or wanted is None:
        return known is None and wanted is None
    return all(known.get(name) == value for name, value in wanted.items())


class _Output:
    """Lines about files and jobs, for people or as JSON."""

    def __init__(self, *, as_json: bool) -> None:
        """Print JSON if ``as_json``."""
        self._as_json = as_json

    def file(self, what: str, file: FoundFile, facts: Mapping[str, Any]) -> None:
        """Print what happened to a file."""
        if self._as_json:
            print_json({"file": file.path, "state": what, "size_bytes": file.size, **facts})
        elif what == "uploaded":
            print_line(f"{file.path}  {format_size(file.size)}  {facts['upload_id']}")
        elif what == "moved":
            print_note(f"{file.path} is the same file as before; it is not uploaded again.")
        else:
            code = f" ({facts['code']})" if "code" in facts else ""
            print_note(f"{file.path} is not uploaded: {str(facts['message']).rstrip('.')}{code}.")

    def job(self, job: Job, folder: Path | None, paths: list[Path], failure: ClientError | None = None) -> None:
        """Print how a job ended, or why its results are not downloaded."""
        if self._as_json:
            error = job.error.model_dump(mode="json") if job.error else None
            if failure is not None:
                error = {"code": failure.code, "message": failure.message}
            names = sorted(str(path) for path in paths)
            found = {
                "job": job.id,
                "state": job.state,
                "folder": folder and str(folder),
                "files": names,
                "error": error,
            }
            print_json(found)
        elif folder is not None:
            print_line(f"{display_path(folder.resolve())}  {job.headline or job.workload}")
        elif failure is not None:
            reason = f"{failure.message.rstrip('.')} ({failure.code})"
            print_note(f"Job {job.id}: its results are not downloaded: {reason}.")
            print_note(f"  `saccade artifacts {job.id} --download DIR` tries it again.")
        else:
            end = failure_of(job)
            print_note(f"Job {job.id}: {end.message.rstrip('.')} ({end.code})")
