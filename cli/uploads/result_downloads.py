"""Downloads of the results of jobs that were made from a watched folder's files, each once, also over restarts."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Protocol

from saccade_client import Client, ClientError, Job, NotFoundError

from cli.uploads.folder_scan import RESULTS_MARK
from cli.uploads.watch_state import WatchState
from contracts.events.job import JobCancelled, JobFailed, JobSucceeded

_ENDS: Final = (JobSucceeded.type, JobFailed.type, JobCancelled.type)
_PAUSE_S: Final = 0.2
_RETRY_S: Final = 2.0
#: The server's view of a job may lag behind its events for so long.
_LAG_S: Final = 30.0
_ID_CHARS_SHOWN: Final = 12
_PLAIN: Final = re.compile(r"[^\w.-]+")

#: Errors of the connection or of the key, not of one job's results.
_OF_THE_CALLER: Final = frozenset({401, 403, 429})


class Report(Protocol):
    """Told of each job that has ended, with the files that were downloaded of it, or why none were."""

    def __call__(self, job: Job, folder: Path | None, paths: list[Path], failure: ClientError | None = None) -> None:
        """Report a job."""


class ResultDownloads:
    """Follows the ends of jobs and downloads what they have made of the folder's files."""

    def __init__(self, client: Client, folder: Path, state: WatchState, *, rule_id: str | None, report: Report) -> None:
        """Download into subfolders of ``folder``; with ``rule_id``, only of jobs of this rule.

        Raises:
            OSError: the folder cannot be written.
        """
        self._client, self._folder, self._state = client, folder, state
        self._rule_id, self._report = rule_id, report
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="results", daemon=True)
        #: Why nothing is downloaded any more.
        self.failure: Exception | None = None
        folder.mkdir(parents=True, exist_ok=True)
        (folder / RESULTS_MARK).touch()

    def start(self) -> None:
        """Follow new events in a thread until ``stop``."""
        self._thread.start()

    def stop(self) -> None:
        """Begin nothing new; a download that is interrupted resumes at the next start."""
        self._stopped.set()

    def catch_up(self) -> None:
        """Handle the events until now.

        Raises:
            ClientError, OSError: as the client.
        """
        if self._state.first_upload_at is not None:
            self._follow(follow=False)

    def _run(self) -> None:
        while not self._stopped.is_set():
            if self._state.first_upload_at is None:
                self._stopped.wait(_PAUSE_S)
                continue
            try:
                self._follow(follow=True)
            except ClientError as error:
                if not error.retryable and error.status < 500:
                    self.failure = error
                    return
                self._stopped.wait(_RETRY_S)
            except Exception as error:  # noqa: BLE001 - the watch ends with it; this thread alone would end in silence
                self.failure = error
                return

    def _follow(self, *, follow: bool) -> None:
        cursor = self._state.cursor
        since = None if cursor else self._state.first_upload_at
        for event in self._client.events(types=_ENDS, since=since, cursor=cursor, follow=follow):
            if self._stopped.is_set():
                return
            subject: Mapping[str, Any] = event.envelope
            if event.type in _ENDS and not self._handle(str(subject.get("subject", ""))):
                return
            if event.cursor:
                self._state.keep_cursor(event.cursor)

    def _handle(self, job_id: str) -> bool:
        """Download the results of a job if it is one of the folder's; return False if stopped before that."""
        if self._state.knows_job(job_id):
            return True
        try:
            job = self._client.job(job_id, wait_s=_LAG_S)
        except NotFoundError:
            return True
        if self._rule_id is not None and (job.rule or {}).get("rule_id") != self._rule_id:
            return True
        files = [file for given in job.inputs.values() for file in given]
        while not any(self._state.is_own(str(file.get("upload_id"))) for file in files):
            if not any(self._state.is_begun(str(file.get("sha256"))) for file in files):
                return True
            # A rule submits the job before the upload's own request is answered.
            if self._stopped.wait(_PAUSE_S):
                return False
        self._download(job)
        return True

    def _download(self, job: Job) -> None:
        """Download the results of a job that has ended; those that cannot be had are reported, once.

        Raises:
            ClientError, OSError: as the client; the same results may be downloaded later.
        """
        folder, paths, contents = None, list[Path](), list[str]()
        try:
            if job.state == "succeeded":
                folder = self._folder / _folder_name(job)
                contents = [artifact.sha256 for artifact in self._client.artifacts(job.id).artifacts]
                paths = self._client.download(job.id, folder)
        except ClientError as error:
            if error.retryable or error.status >= 500 or error.status in _OF_THE_CALLER:
                raise
            self._state.keep_job(job.id, "not_downloaded", contents)
            self._report(job, None, [], error)
            return
        self._state.keep_job(job.id, job.state, contents)
        self._report(job, folder, paths)


def _folder_name(job: Job) -> str:
    """Return the name of the folder of a job's results: its first file and the end of its id."""
    names = [str(file.get("filename", "")) for given in job.inputs.values() for file in given]
    stem = _PLAIN.sub("_", Path(names[0]).stem if names else job.workload).strip("._")
    return f"{stem or job.workload}_{job.id[-_ID_CHARS_SHOWN:]}"
